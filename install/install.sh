#!/bin/sh
# Installs cleat as a systemd service. `sh install.sh --help` explains it.
set -eu

# The removal of `cleat uninstall` knows these names.
bin_dir=/usr/local/bin
unit=/etc/systemd/system/cleat.service
env_file=/etc/systemd/system/cleat.service.env

help() {
	cat <<'HELP'
Installs cleat as a systemd service, or brings an installation up to date.

  curl -fsSL ADDRESS/install.sh | INSTALL_CLEAT_URL=ADDRESS sh -s - [server|agent] [FLAG]...
  INSTALL_CLEAT_BIN=PATH sh install.sh [server|agent] [FLAG]...

The FLAGs are those of `cleat server` or `cleat agent`. Without any, an installation
keeps those it has. It is an agent where CLEAT_SERVER names a server to join.

Where the binary comes from, one of:
  INSTALL_CLEAT_BIN         the binary, or a directory with cleat-linux-ARCH or cleat
  INSTALL_CLEAT_URL         https address below which cleat-linux-ARCH is
Beside it must be a file of the same name and .sha256, as sha256sum writes it.

Further variables:
  INSTALL_CLEAT_SHA256      the digest, instead of that file; an http address needs it
  INSTALL_CLEAT_EXEC        flags before those of the command line, split at blanks
  INSTALL_CLEAT_SKIP_START  true: do not start the service
  INSTALL_CLEAT_SKIP_ENABLE true: do not start the service, now or at boot
  CLEAT_..., CONTAINERD_..., HTTP_PROXY, HTTPS_PROXY, NO_PROXY and in small letters
                            kept for the service in cleat.service.env, which only root
                            can read; an empty variable is removed from it

Options:
  --help        show this
  --print-unit  show the unit and change nothing
HELP
}

say() { printf '%s\n' "cleat install: $*"; }
fail() {
	printf '%s\n' "cleat install: $*" >&2
	exit 1
}

staged_bin='' staged_unit='' staged_env=''
clean_up() {
	rm -f ${staged_bin:+"$staged_bin" "$staged_bin.sha256"} ${staged_unit:+"$staged_unit"} ${staged_env:+"$staged_env"}
}

# check_host refuses machines on which the service could not run, before anything is written.
check_host() {
	[ "$(id -u)" = 0 ] || fail "must run as root; try: curl ... | sudo sh -s - $*"
	case $(uname -s) in
	Linux) ;;
	*) fail "cleat runs on Linux, and this is $(uname -s)" ;;
	esac
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 machine=62 ;;
	aarch64 | arm64) arch=arm64 machine=183 ;;
	*) fail "there is no cleat for the architecture $(uname -m), only for x86_64 and aarch64" ;;
	esac
	[ -d /run/systemd/system ] || fail "systemd does not run here, and this script knows no other service manager.
By hand: copy the binary to $bin_dir/cleat, and let yours run: $bin_dir/cleat server"
	for comm in /proc/[0-9]*/comm; do
		case $(cat "$comm" 2>/dev/null || true) in
		k3s | k3s-server | k3s-agent)
			fail "k3s runs here, and both want port 6443 and the pods' network; stop it first: systemctl disable --now k3s" ;;
		esac
	done
	if [ "$(getenforce 2>/dev/null || true)" = Enforcing ]; then
		say "note: SELinux is enforcing and cleat has no policy for it; if pods fail, look at: ausearch -m avc"
	fi
}

# stage DIR NAME makes an empty file beside its later place, so that only a rename is left.
stage() {
	mktemp "$1/.$2.XXXXXX" 2>/dev/null || fail "cannot write to $1; is it missing, or mounted read-only? findmnt -T $1 tells"
}

fetch() {
	if command -v curl >/dev/null; then
		curl -fsSL --retry 3 -o "$2" "$1" || fail "cannot download $1; is INSTALL_CLEAT_URL right?"
	elif command -v wget >/dev/null; then
		wget -q -O "$2" "$1" || fail "cannot download $1; is INSTALL_CLEAT_URL right?"
	else
		fail "a download needs curl or wget; install one, or copy the binary here and set INSTALL_CLEAT_BIN"
	fi
}

# get_binary puts the verified binary into $staged_bin.
get_binary() {
	bin=${INSTALL_CLEAT_BIN:-} url=${INSTALL_CLEAT_URL:-} want=${INSTALL_CLEAT_SHA256:-}
	if [ -n "$bin" ]; then
		if [ -d "$bin" ]; then
			if [ -f "$bin/cleat-linux-$arch" ]; then bin=$bin/cleat-linux-$arch; else bin=$bin/cleat; fi
		fi
		[ -f "$bin" ] || fail "INSTALL_CLEAT_BIN: there is no file $bin"
		[ -n "$want" ] || [ -f "$bin.sha256" ] || fail "there is no checksum $bin.sha256; copy it too, or set INSTALL_CLEAT_SHA256"
	elif [ -n "$url" ]; then
		case $url in
		https://*) ;;
		http://*) [ -n "$want" ] || fail "INSTALL_CLEAT_URL $url: what http brings can be altered on the way, its checksum too; use https, or set INSTALL_CLEAT_SHA256" ;;
		*) fail "INSTALL_CLEAT_URL $url: must begin with https://" ;;
		esac
	else
		fail "set INSTALL_CLEAT_BIN to the binary or INSTALL_CLEAT_URL to where it is; --help explains them"
	fi

	staged_bin=$(stage $bin_dir cleat)
	if [ -n "$bin" ]; then
		from=$bin
		cp "$bin" "$staged_bin" || fail "cannot copy $bin to $bin_dir; is there space?"
		[ -n "$want" ] || cp "$bin.sha256" "$staged_bin.sha256"
	else
		from=${url%/}/cleat-linux-$arch
		say "downloading $from"
		fetch "$from" "$staged_bin"
		[ -n "$want" ] || fetch "$from.sha256" "$staged_bin.sha256"
	fi
	[ -n "$want" ] || read -r want _ <"$staged_bin.sha256" || true
	printf '%s' "$want" | grep -Eqx '[0-9a-f]{64}' || fail "the checksum of $from is no SHA-256 digest of 64 hex digits"
	got=$(sha256sum <"$staged_bin")
	got=${got%% *}
	[ "$got" = "$want" ] || fail "$from has the SHA-256 digest $got, not $want; get the file again, nothing was installed"
	chmod 755 "$staged_bin"
	if ! version=$("$staged_bin" version 2>&1); then
		[ "$(od -An -tu2 -j18 -N2 "$staged_bin" | tr -d ' ')" = $machine ] || fail "$from is no program for this machine, which is $arch"
		grep -E "^[^ ]+ $(stat -c %m $bin_dir) .*noexec" /proc/mounts >/dev/null &&
			fail "$bin_dir is mounted noexec; programs there cannot run: mount -o remount,exec $(stat -c %m $bin_dir)"
		fail "$from does not run: $version"
	fi
	version=$(printf '%s\n' "$version" | sed -n 's/^cleat  *//p')
}

# quoted escapes a word for a command line of systemd.
quoted() {
	case $1 in
	*'
'*) fail "a flag holds a line break, which a unit cannot" ;;
	esac
	printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g; s/%/%%/g; s/\$/$$/g')"
}

# take_command sets $command to the first word, if that is one, and fails then.
take_command() {
	case ${1:-} in
	'' | -*) ;;
	*)
		command=$1
		return 1
		;;
	esac
}

# exec_line sets $exec to the command line of the flags. Secrets among them become
# variables: the command line can be read by everyone, in the unit and in ps.
exec_line() {
	exec="$bin_dir/cleat $command"
	while [ $# -gt 0 ]; do
		case $1 in
		--token | -t | --agent-token | --datastore-endpoint)
			[ $# -gt 1 ] || fail "$1 has no value"
			keep_secret "$1" "$2"
			shift
			;;
		--token=* | --agent-token=* | --datastore-endpoint=*) keep_secret "${1%%=*}" "${1#*=}" ;;
		-t=*) keep_secret -t "${1#-t=}" ;;
		-t*) keep_secret -t "${1#-t}" ;;
		*) exec="$exec $(quoted "$1")" ;;
		esac
		shift
	done
}

keep_secret() {
	case $1 in
	-t | --token) export CLEAT_TOKEN="$2" ;;
	--agent-token) export CLEAT_AGENT_TOKEN="$2" ;;
	*) export CLEAT_DATASTORE_ENDPOINT="$2" ;;
	esac
}

unit_text() {
	cat <<UNIT
# Written by cleat's install.sh; a change belongs into cleat.service.d/*.conf.
[Unit]
Description=cleat, a Kubernetes node
Documentation=https://github.com/cleat-dev/cleat
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
NotifyAccess=main
EnvironmentFile=-$env_file
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=$exec
# Pods live on without the server, and are not its own to limit or to end.
KillMode=process
Delegate=yes
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=1048576
LimitNPROC=infinity
OOMScoreAdjust=-999
# The status line tells what a start waits for.
TimeoutStartSec=0
TimeoutStopSec=120
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
UNIT
}

# env_text writes the variables that the server shall have: those of the
# environment and, where it says nothing of one, those kept before.
env_text() {
	names=$(env | sed -n -E 's/^((CLEAT|CONTAINERD)_[A-Z0-9_]+|HTTP_PROXY|HTTPS_PROXY|NO_PROXY|http_proxy|https_proxy|no_proxy)=.*/\1/p' | sort -u)
	for name in $names; do
		eval "value=\${$name-}"
		case $value in
		*'
'*) fail "the variable $name holds a line break; put it into a file and use the option for files" ;;
		esac
		[ -z "$value" ] || printf '%s="%s"\n' "$name" "$(printf '%s' "$value" | sed 's/[\\"$`]/\\&/g')"
	done
	[ -f $env_file ] || return 0
	while IFS= read -r line; do
		case " $(printf '%s' "$names" | tr '\n' ' ') " in
		*" ${line%%=*} "*) ;;
		*) printf '%s\n' "$line" ;;
		esac
	done <$env_file
}

# place FILE WHERE renames what was staged if it differs, and says so in $changed.
place() {
	if cmp -s "$1" "$2"; then
		rm -f "$1"
	else
		mv -f "$1" "$2"
		changed=true
	fi
}

link_tools() {
	for tool in kubectl crictl ctr; do
		if ! command -v $tool >/dev/null && [ ! -e $bin_dir/$tool ] && [ ! -L $bin_dir/$tool ]; then
			ln -s cleat $bin_dir/$tool
		fi
	done
}

# show_log shows what the server said last. `systemctl status` does not while it waits
# for the next start, and the journal may be late.
show_log() {
	pid=$(systemctl show --value --property=ExecMainPID cleat.service)
	for _ in 1 2 3 4 5; do
		log=$(journalctl --quiet --output=cat --lines=20 "_PID=$pid" 2>/dev/null || true)
		[ -z "$log" ] || break
		sleep 1
	done
	printf '%s\n' "$log" >&2
}

start() {
	if [ "${INSTALL_CLEAT_SKIP_ENABLE:-}" = true ]; then
		say "installed, not enabled; systemctl enable --now cleat does both"
		return
	fi
	systemctl enable --quiet cleat.service
	if [ "${INSTALL_CLEAT_SKIP_START:-}" = true ]; then
		say "installed, not started; systemctl start cleat starts it"
		return
	fi
	if systemctl is-active --quiet cleat.service; then
		if [ $changed = false ]; then
			say "nothing changed, and cleat $version runs"
			return
		fi
		say "restarting cleat; pods go on"
	else
		say "starting cleat; systemctl status cleat tells what it waits for"
	fi
	if ! systemctl restart cleat.service; then
		show_log
		fail "cleat is installed but did not start, see above. Correct the flags (run this again with others) or /etc/cleat/config.yaml, then: systemctl restart cleat"
	fi
	say "cleat $version runs
Nodes:   $bin_dir/cleat kubectl get nodes, on a server
State:   $bin_dir/cleat status
Log:     journalctl -u cleat
Options: /etc/cleat/config.yaml, then systemctl restart cleat"
}

main() {
	umask 022
	command=server exec='' changed=false
	# An agent's variables were kept, so it stays one when it gets other flags.
	kept=$(sed -n 's/^CLEAT_SERVER=//p' $env_file 2>/dev/null || true)
	[ -z "${CLEAT_SERVER-$kept}" ] || command=agent
	case ${1:-} in
	--help | -h)
		help
		return
		;;
	esac
	if [ -n "${K3S_URL:-}" ] && [ -z "${CLEAT_SERVER:-}" ]; then
		# It would become a server of a cluster of its own.
		fail "K3S_URL is a variable of k3s and is not read; set CLEAT_SERVER, and CLEAT_TOKEN in place of K3S_TOKEN"
	fi
	case ${1:-} in
	--print-unit)
		shift
		take_command "$@" || shift
		exec_line "$@"
		unit_text
		return
		;;
	esac
	check_host "$@"
	if [ $# -eq 0 ] && [ -z "${INSTALL_CLEAT_EXEC:-}" ] && [ -f $unit ]; then
		exec=$(sed -n 's/^ExecStart=//p' $unit)
	fi
	# The command stands before all flags, of whichever source.
	case ${INSTALL_CLEAT_EXEC:-} in
	'' | -*) take_command "$@" || shift ;;
	esac
	set -f # the words of INSTALL_CLEAT_EXEC are no file names
	# shellcheck disable=SC2086
	set -- ${INSTALL_CLEAT_EXEC:-} "$@"
	set +f
	take_command "$@" || shift
	trap clean_up EXIT
	trap 'exit 1' HUP INT TERM
	role='' # to be looked for in the binary
	if [ -z "$exec" ]; then
		role=$command
		exec_line "$@"
	fi
	staged_unit=$(stage "${unit%/*}" cleat.service)
	unit_text >"$staged_unit"
	chmod 644 "$staged_unit"
	staged_env=$(stage "${env_file%/*}" cleat.service.env) # mktemp made it for root alone
	env_text >"$staged_env"
	sort -o "$staged_env" "$staged_env"
	get_binary
	if [ -n "$role" ]; then
		"$staged_bin" "$command" --help 2>&1 | grep -q -e --data-dir || fail "this cleat runs no $command; the flags of a server begin with dashes"
	fi

	place "$staged_bin" $bin_dir/cleat
	place "$staged_env" $env_file
	place "$staged_unit" $unit
	link_tools
	systemctl daemon-reload
	start
}

# All of it is a function, so that half a download does nothing.
main "$@"
