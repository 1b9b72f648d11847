# A command of holders_host.py: LOG SESSION FENCE TICKS. It says that it starts, lives a little, and says that it ends.
trap '' TERM
log=$1 about="$2 $3" ticks=$4
echo "start $about" >>"$log"
while [ "$ticks" -gt 0 ]; do
    ticks=$((ticks - 1))
    echo "tick $about" >>"$log"
    sleep 0.01
done
echo "end $about" >>"$log"
