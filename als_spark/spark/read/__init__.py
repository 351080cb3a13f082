"""From sources to one DataFrame of typed ratings in which every unusable row says why."""
