#!/bin/sh
# Runs inside a machine of the lab, in mount and process namespaces of its own: makes
# the root of a Debian with systemd and becomes its first process.
# Arguments: the unpacked root file system, a directory on a real disk.
set -eu
lower=$1
disk=$2
root=/mnt/debian

mkdir -p $root /mnt/layers
mount -t tmpfs -o mode=755 tmpfs /mnt/layers
mkdir /mnt/layers/upper /mnt/layers/work
mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/layers/upper,workdir=/mnt/layers/work" overlay $root

# What containerd and SQLite use must not be on an overlay.
for dir in /etc/cleat /etc/cni /opt /var/lib/cleat /var/lib/cni /var/lib/kubelet /var/log /usr/local/bin; do
	mkdir -p "$disk$dir" $root$dir
	mount --bind "$disk$dir" $root$dir
done

mount -t proc proc $root/proc
# The lab covers the settings that a kubelet writes and that are not namespaced.
awk '$5 ~ "^/proc/sys/" {print $5}' /proc/self/mountinfo | while read -r setting; do
	mount --bind "$setting" "$root$setting"
done
mount --rbind /sys $root/sys
mount -t tmpfs -o mode=755 tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp

# A /dev of its own: that of the real machine is not for this systemd to change.
mount -t tmpfs -o mode=755 tmpfs $root/dev
mkdir $root/dev/pts $root/dev/shm
for device in null zero full random urandom tty kmsg fuse; do
	[ -e /dev/$device ] || continue
	touch $root/dev/$device
	mount --bind /dev/$device $root/dev/$device
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts $root/dev/pts
ln -s pts/ptmx $root/dev/ptmx
ln -s /proc/self/fd $root/dev/fd
mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm

cp /etc/hostname /etc/hosts /etc/resolv.conf $root/etc/
rm -f $root/etc/machine-id && touch $root/etc/machine-id
mkdir -p $root/etc/systemd/journald.conf.d
printf '[Journal]\nReadKMsg=no\nStorage=persistent\n' >$root/etc/systemd/journald.conf.d/lab.conf
# Those that would touch the machine below this one.
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udev-trigger.service \
	systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service console-getty.service getty.target \
	proc-sys-fs-binfmt_misc.automount systemd-binfmt.service dev-hugepages.mount dev-mqueue.mount; do
	ln -sf /dev/null $root/etc/systemd/system/$unit
done

cd $root
mkdir -p mnt
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec env -i container=cleat-lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=multi-user.target --show-status=0 --log-target=console
