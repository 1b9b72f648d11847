# The work of step_host.py: it says that it started, leaves a daemon, and fails the first time. `hangs`: until it is killed.
echo "$TURNKEEPER_RUN_ID $TURNKEEPER_ATTEMPT" >>"$1"
setsid sh -c 'trap "" TERM; sleep 60; sleep 60' &
if [ "$2" = hangs ]; then
    trap '' TERM
    sleep 60
    sleep 60
fi
[ "$TURNKEEPER_ATTEMPT" -gt 1 ]
