"""From typed ratings to blocks: checked, numbered, packed, placed."""
