# Run in namespaces of its own: no engine can be seen here, and what is started ends with them.
# Arguments: a Python that has the package, a folder for results.
set -eu
python=$1 results=$2
mount -t tmpfs tmpfs /run
mkdir -p /var/lib/docker
mount -t tmpfs tmpfs /var/lib/docker
mount -t tmpfs tmpfs /var/log
ip link set lo up

"$python" -m dit4c_p2p.imagebuild engine --pid-file "$results/first"
# The daemon has outlived the process that started it, and is found by the next.
"$python" -m dit4c_p2p.imagebuild engine --pid-file "$results/second"
test ! -e "$results/second"

pid=$(cat "$results/first")
grep -q dockerd "/proc/$pid/comm"
kill "$pid"
timeout 60 tail --pid="$pid" -f /dev/null
echo ended
