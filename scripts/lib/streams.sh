# shellcheck shell=bash
# To be sourced by each script that is started by itself, before anything else. Where a standard
# stream is closed, bash opens the script itself in its place, and what is said would go there, or
# into the next file that anybody opens.
if [[ -d /dev/fd ]]; then
    [[ -e /dev/fd/0 && ! /dev/fd/0 -ef $0 ]] || exec 0</dev/null
    [[ -e /dev/fd/1 && ! /dev/fd/1 -ef $0 ]] || exec 1>/dev/null
    [[ -e /dev/fd/2 && ! /dev/fd/2 -ef $0 ]] || exec 2>/dev/null
fi
