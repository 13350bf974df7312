#!/usr/bin/env bash
# The whole pathway analysis with step 3 on several devices: launch.sh [OPTIONS OF run.py pathway] [-- OPTIONS OF THE LAUNCHER]
#   launch.sh --profile llama-3.1-8b -- --gpus 0,1,2,3
#   launch.sh --profile llama-3.1-8b -- --engine slurm --slices 8 --gpus-per-task 1
# It ends with the exit status of the first part that fails; the same command goes on with what is missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ -z "${PYTHON:-}" ]]; then
    PYTHON=python3
    [[ -x .venv/bin/python ]] && PYTHON=.venv/bin/python
fi

usage() {
    echo "launch.sh [OPTIONS OF run.py pathway] [-- OPTIONS OF multi_gpu_launcher.py]"
    echo "every step of the pathway analysis, step 3 on several devices; the options:"
}

all=() first=() launcher=()
while (($#)); do
    case "$1" in
        --) shift; launcher=("$@"); break ;;
        --help | -h) usage; exec "$PYTHON" run.py pathway --help ;;
        --dry-run) exec "$PYTHON" run.py pathway ${all[@]+"${all[@]}"} "$@" ;;
        --from | --to | --from=* | --to=*) echo "error: launch.sh runs every step; for some of them: run.py pathway $1" >&2; exit 2 ;;
        --strict | --no-produce) first+=("$1"); shift ;;
        *) all+=("$1"); shift ;;
    esac
done

"$PYTHON" run.py pathway --to 2 ${all[@]+"${all[@]}"} ${first[@]+"${first[@]}"}
"$PYTHON" multi_gpu_launcher.py --phase pathway ${all[@]+"${all[@]}"} ${launcher[@]+"${launcher[@]}"}
"$PYTHON" run.py pathway --from 4 ${all[@]+"${all[@]}"}
