#!/usr/bin/env bash
# Starts the compose cluster and returns when every node is ready; prints what to try.
set -euo pipefail
cd "$(dirname "$0")/.."

ready_seconds_max=60
compose=$(command -v docker-compose || true)
if docker compose version >/dev/null 2>&1; then compose="docker compose"; fi
[ -n "$compose" ] || { echo "Docker Compose is needed: apt-get install docker-compose" >&2; exit 1; }

# Prometheus and Grafana, where compose/monitoring.yml has started them beside the nodes; the network could not go without them. By their names, as
# --remove-orphans would take whatever else is called like this folder. Their data stays.
stop_monitoring() {
  $compose -f docker-compose.yml -f deploy/compose/monitoring.yml rm --stop --force prometheus grafana >/dev/null
}

case ${1:-up} in
  up) ;;
  down) stop_monitoring; exec $compose down --timeout 30 ;;
  clean-data) stop_monitoring; exec $compose down --timeout 30 --volumes ;;
  *) echo "usage: $0 [up|down|clean-data]" >&2; exit 64 ;;
esac

ports=("${BLOX_HTTP_1:-2001}" "${BLOX_HTTP_2:-2002}" "${BLOX_HTTP_3:-2003}")
$compose up -d
began=$SECONDS
for port in "${ports[@]}"; do
  until curl -sf -m 2 -o /dev/null "http://127.0.0.1:$port/readyz"; do
    if ((SECONDS - began > ready_seconds_max)); then
      echo "The node on port $port is not ready after $ready_seconds_max s:" >&2
      curl -s -m 2 "http://127.0.0.1:$port/readyz" >&2 || true
      $compose logs --tail 20 >&2
      exit 1
    fi
    sleep 0.2
  done
done
cat <<TRY
Three nodes are ready: http://127.0.0.1:${ports[0]}, :${ports[1]} and :${ports[2]}. Try

  curl -s http://127.0.0.1:${ports[0]}/v2/cluster
  curl -s 'http://127.0.0.1:${ports[1]}/v1/tasks?cluster=alpha&status=running'
  curl -s -X PUT http://127.0.0.1:${ports[2]}/v2/environments/agent -H 'content-type: application/json' -d '{"cluster":"alpha","task_definition":"agent"}'
  curl -sN 'http://127.0.0.1:${ports[0]}/v2/watch?kinds=task'

make down stops it and keeps its data; make clean-data removes that too.
TRY
