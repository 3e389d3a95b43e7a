#!/usr/bin/env bash
# Builds the image features-etl, starts it as the container $CONTAINER (features-etl) on
# port $PORT (5000), and waits until it is ready. Nothing in it can be root, or write
# outside of its volumes and /tmp. Arguments go to docker run.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
container=${CONTAINER:-features-etl}
url=http://127.0.0.1:${PORT:-5000}
# More than the minute that the service itself waits for a database.
ready_seconds=90

fail() {
    echo "$*" >&2
    exit 1
}

command -v curl >/dev/null || fail "curl is needed"
docker version >/dev/null 2>&1 || fail "no answer from Docker: see docker version"
if docker container inspect "$container" >/dev/null 2>&1; then
    fail "the container $container exists already: docker start it, docker rm it, or set CONTAINER"
fi

docker build --tag features-etl "$project"
# Docker keeps a container that it could not start: it is ours to remove where it has an id.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! docker run --detach --cidfile "$folder/id" --name "$container" \
    --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges:true \
    --publish "127.0.0.1:${PORT:-5000}:5000" "$@" features-etl >/dev/null; then
    [ -s "$folder/id" ] && docker rm --force --volumes "$(cat "$folder/id")" >/dev/null
    exit 1
fi

SECONDS=0
until curl --silent --fail --noproxy '*' --max-time 2 --output /dev/null "$url/readyz"; do
    running=$(docker container inspect --format '{{.State.Running}}' "$container")
    if [ "$running" != true ] || [ "$SECONDS" -ge "$ready_seconds" ]; then
        docker logs --tail 20 "$container" >&2
        docker rm --force --volumes "$container" >/dev/null
        fail "the container $container was not ready: its last words stand above; removed"
    fi
    sleep 0.2
done

cat <<END
Ready on $url
  run the pipeline:  curl $url/trigger_etl
  stop, and go on:   docker stop $container; docker start $container
  remove it:         docker rm --force --volumes $container
END
