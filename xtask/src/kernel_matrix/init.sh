#!/bin/busybox sh
# Process 1 of the guest: a minimal Debian-like root, then the programs, then power off.
# /matrix/plan calls `load` for each module and `run` for each program.

/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp TMPDIR=/tmp CI=true RUST_BACKTRACE=1

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
# As systemd does for its services.
ulimit -Hn 524288
# Line ends reach the log as the programs wrote them.
stty -F /dev/console -onlcr
cd /tmp

load() {
    insmod "$1" || echo "MATRIX module $1 failed"
}

# run <name> <program> [argument]...
run() {
    name=$1
    shift
    echo "MATRIX $name start"
    "$@" </dev/null
    code=$?
    # A program may leave its last line open.
    echo
    echo "MATRIX $name exit=$code"
}

. /matrix/plan

echo "MATRIX end"
# Setting the terminal waits until all is written.
stty -F /dev/console onlcr
poweroff -f
