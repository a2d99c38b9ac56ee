#!/usr/bin/env bash
# Builds the CPU images and the trainer's where no engine runs, runs them, and leaves nothing behind.
#
#   tests/docker/build.sh [--base DIR] [PYTEST_ARGUMENT...]
#
# buildah builds, in a storage of its own; the base is Debian bookworm by debootstrap; test_image.py runs containers by crun, and
# test_compose_up.py runs docker/compose.yaml by podman.
# --base DIR   where to make the base, or to find it from a run before: saves a minute or four.
# Needs: root, 15 GB, buildah, debootstrap, crun, podman, util-linux; $PYTHON (default .venv/bin/python) with augserver and its test tools.
# Packages come from where this machine's pip is told to take them; its settings are mounted for the build alone.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-$PWD/.venv/bin/python}
base=
if [ "${1:-}" = --base ]; then
    base=$2
    shift 2
fi

work=$(mktemp -d)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$work/storage.conf TMPDIR=$work/tmp
mkdir "$TMPDIR" "$work/images"
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" >"$CONTAINERS_STORAGE_CONF"
# crun refuses a machine that has cgroups of both versions ("hybrid mode"): in mounts of its own it sees those of the first alone.
export AUGSERVER_CRUN=$work/crun
cat >"$AUGSERVER_CRUN" <<'END'
#!/bin/sh
exec unshare --mount sh -c 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"' sh "$@"
END
chmod +x "$AUGSERVER_CRUN"
# podman, where nothing of an engine is set up: no systemd, no journal, cgroups that are not ours, limits that may not be raised.
export CONTAINERS_CONF=$work/containers.conf
cat >"$CONTAINERS_CONF" <<END
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "crun"
static_dir = "$work/podman"
tmp_dir = "$work/podman/tmp"
volume_path = "$work/volumes"
[network]
network_config_dir = "$work/networks"
[engine.runtimes]
crun = ["$AUGSERVER_CRUN"]
END

clean_up() {
    podman rm --all --force --time 1 >/dev/null 2>&1 || true
    podman volume rm --all --force >/dev/null 2>&1 || true
    buildah rm --all >/dev/null 2>&1 || true
    umount --quiet --recursive "$work/base/proc" "$work/base/sys" 2>/dev/null || true # debootstrap was stopped
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT

step() { echo "== $SECONDS s: $*"; }

make_base() {
    base=${base:-$work/base}
    if ! [ -e "$base/usr/bin/python3" ]; then
        step "base: Debian bookworm with its python3"
        debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$base.new" >"$work/debootstrap.log" || {
            tail -n 20 "$work/debootstrap.log" >&2
            exit 1
        }
        rm -rf "$base.new/var/cache/apt/archives"/*.deb "$base.new/var/lib/apt/lists"/*
        mv "$base.new" "$base"
    fi
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$base" / >/dev/null
    buildah commit --quiet --rm "$container" base >/dev/null
    ln -s "$base" "$work/images/base"
}

build() { # DOCKERFILE TARGET BUILD_PACKAGES
    step "image: $2"
    local mounts=()
    while read -r path; do mounts+=(--volume "$path:$path:ro"); done <"$work/pip_paths"
    buildah build --quiet --format docker --file "docker/$1.Dockerfile" --target "$2" --tag "$2" \
        --build-arg BASE=localhost/base --build-arg "BUILD_PACKAGES=$3" \
        --secret "id=pip,src=$work/images/pip.conf" "${mounts[@]}" . >"$work/build.log" 2>&1 || {
        tail -n 40 "$work/build.log" >&2
        exit 1
    }
    mkdir "$work/images/$2"
    buildah inspect --type image "$2" >"$work/images/$2/image.json"
    ln -s "$(buildah mount "$(buildah from "$2")")" "$work/images/$2/rootfs"
}

"$python" tests/docker/pip_settings.py "$work/images/pip.conf" >"$work/pip_paths"
make_base
build server-cpu server "g++ python3-dev python3-venv"
build server-cpu ingest "g++ python3-dev python3-venv"
build trainer trainer python3-venv
for name in server=augserver trainer=augserver-trainer; do # as compose.yaml has them
    buildah tag "${name%=*}" "${name#*=}:0.1.0"
done
step "containers"
AUGSERVER_IMAGES=$work/images "$python" -m pytest tests/docker/test_image.py tests/docker/test_compose_up.py "$@"
step "done"
