#!/usr/bin/env bash
# Sets up one machine of a cluster; cluster.yaml runs it. A second run does only what is still missing.
#   set_up.sh node    on every machine: packages, token, environment, data
#   set_up.sh head    on the head, afterwards: the MLflow server
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
own=$HOME/.holdout-sweeps
say() { echo "set_up: $*"; }
fail() { echo "Error: $*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# Chooses a Python that has everything that constraints.txt pins: the machine's own, else one made here.
choose_python() {
    local candidate
    for candidate in "$own/venv/bin/python" "$(command -v python || true)"; do
        if [ -x "$candidate" ] && "$candidate" "$project/cluster/installed.py" 2>/dev/null; then
            python=$candidate
            say "packages are installed for $python"
            return
        fi
    done
    install_packages
}

install_packages() {
    local base=
    for base in python3.11 python3.12 python3.13 python3 none; do
        "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
    done
    [ "$base" != none ] || fail "there is no Python 3.11 or newer on $(hostname): choose an image that has one."
    say "installing packages with $base into $own/venv"
    if ! "$base" -m venv "$own/venv" >/dev/null 2>&1; then
        apt_get update
        apt_get install -y "$("$base" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        "$base" -m venv --clear "$own/venv"
    fi
    python=$own/venv/bin/python
    "$python" -m pip install --quiet --constraint "$project/constraints.txt" --editable "${project}[cluster]"
}

# A new Ubuntu runs its own updates at first: waits up to five minutes for apt's locks to be released.
apt_get() {
    local said limit=$((SECONDS + 300))
    until said=$(as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C \
        apt-get -qq -o DPkg::Lock::Timeout=300 "$@" 2>&1 </dev/null); do
        case $said in
        *"Could not get lock"*) [ "$SECONDS" -lt "$limit" ] || fail "apt-get is in use for too long: $said" ;;
        *) fail "apt-get $* failed: $said" ;;
        esac
        say "apt-get is in use; waiting for it"
        sleep 10
    done
}

guard_token() {
    local token=$HOME/.ray/auth_token
    [ -s "$token" ] || fail "there is no token in $token: run ray get-auth-token --generate where ray up runs."
    chmod 700 "$HOME/.ray"
    chmod 600 "$token"
}

# Writes the environment in which shells, Ray and jobs start on this machine.
write_environment() {
    touch "$own/environment"
    chmod 600 "$own/environment"
    cat >"$own/environment" <<-END
		export PATH="$(dirname "$python"):\$PATH"
		export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
		export HOLDOUT_BUCKET="$bucket"
	END
    # What only the machine's owner knows, such as AWS_ENDPOINT_URL for an object store of their own.
    cat "$HOME/.holdout-environment" >>"$own/environment" 2>/dev/null || true
    local line="[ ! -r $own/environment ] || . $own/environment; [ ! -r $own/environment.head ] || . $own/environment.head"
    touch "$HOME/.bashrc"
    grep -qxF "$line" "$HOME/.bashrc" || echo "$line" >>"$HOME/.bashrc"
}

set_up_node() {
    mkdir -p -m 700 "$own"
    bucket=$(cat "$HOME/.holdout-bucket" 2>/dev/null || true)
    case $bucket in
    *://*CHANGE-ME* | "") fail "the bucket is not filled in: name it at the top of cluster.yaml." ;;
    esac
    guard_token
    # Read before a Python is chosen, since it may set the PATH to one, or the project's PYTHONPATH.
    [ ! -r "$HOME/.holdout-environment" ] || . "$HOME/.holdout-environment"
    choose_python
    write_environment
    . "$own/environment"
    "$python" "$project/cluster/fetch_data.py" "$bucket/data" "$HOME/data"
}

set_up_head() {
    . "$own/environment"
    umask 077
    mkdir -p "$own/mlflow" "$HOME/.mlflow"
    [ -s "$own/mlflow/password" ] || random >"$own/mlflow/password"
    [ -s "$own/mlflow/secret" ] || random >"$own/mlflow/secret"
    [ -e "$own/mlflow/settings" ] || cp "$project/cluster/mlflow_settings" "$own/mlflow/settings"
    write_credentials
    echo 'export RAY_ADDRESS=auto MLFLOW_TRACKING_URI=http://127.0.0.1:5000' >"$own/environment.head"
    start_mlflow
    await_mlflow
}

# Lets sweeps, jobs and the doctor on the head know the password. A file that the user wrote is left alone.
write_credentials() {
    local file=$HOME/.mlflow/credentials mark='# written by holdout-sweeps'
    if [ -e "$file" ] && ! grep -qxF "$mark" "$file"; then
        say "$file is yours and stays as it is: give it the user admin and the password of $own/mlflow/password"
        return
    fi
    printf '%s\n[mlflow]\nmlflow_tracking_username = admin\nmlflow_tracking_password = %s\n' \
        "$mark" "$(cat "$own/mlflow/password")" >"$file"
}

random() { python -c 'import secrets; print(secrets.token_urlsafe(24))'; }

# Starts the server under systemd where that runs, else in a loop that restarts it until the machine stops.
start_mlflow() {
    if [ -d /run/systemd/system ]; then
        as_root install -m 644 "$project/cluster/holdout-mlflow@.service" /etc/systemd/system/
        as_root systemctl daemon-reload
        as_root systemctl enable --quiet "holdout-mlflow@$(id -un)"
        as_root systemctl restart "holdout-mlflow@$(id -un)"
        return
    fi
    say "systemd does not run here: the MLflow server will not come back after a reboot by itself"
    stop_loop
    setsid nohup bash -c 'while :; do "$0"; sleep 2; done' "$project/cluster/mlflow_server.sh" \
        >>"$own/mlflow/log" 2>&1 </dev/null &
    echo $! >"$own/mlflow/loop"
}

# Ends the loop and its server, so that the next server reads the settings again. After a reboot the process
# id in the file may belong to any process, so only one with the loop's command line is ended.
stop_loop() {
    local pid signal
    pid=$(cat "$own/mlflow/loop" 2>/dev/null) || return 0
    case $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") in
    "bash -c while :; do "*/cluster/mlflow_server.sh*) ;;
    *) return 0 ;;
    esac
    for signal in TERM KILL; do
        kill "-$signal" -- "-$pid" 2>/dev/null || return 0
        for _ in $(seq 50); do
            kill -0 -- "-$pid" 2>/dev/null || return 0
            sleep 0.2
        done
    done
}

await_mlflow() {
    local second
    for second in $(seq 90); do
        python -c 'import urllib.request as r; r.urlopen("http://127.0.0.1:5000/health", timeout=2)' 2>/dev/null &&
            say "MLflow answers on 127.0.0.1:5000; its password is in $own/mlflow/password" && return
        sleep 1
    done
    fail "MLflow does not answer after $second s: see journalctl -u holdout-mlflow@$(id -un), or $own/mlflow/log."
}

case ${1:-} in
node) set_up_node ;;
head) set_up_head ;;
*) sed -n 2,4p "$0"; exit 2 ;;
esac
