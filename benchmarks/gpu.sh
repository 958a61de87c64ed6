#!/usr/bin/env bash
# Everything that is measured on a machine with a CUDA GPU, in less than nine minutes, without a network.
#
#   bash benchmarks/gpu.sh [--wheels FOLDER] [--out FOLDER] [--minutes M] [--only SECTION,...] [--smoke]
#   bash benchmarks/gpu.sh --download FOLDER      elsewhere, with a network: fetches the wheels below
#
# It needs Python 3.12 (PYTHON=...), JAX with CUDA, flax, optax, orbax-checkpoint, chex, pandas, pyarrow, scipy, pillow,
# safetensors and lazy-loader; torch for PyTorch's columns. What such a machine lacks besides travels as wheels, which
# are installed into a temporary folder; see benchmarks/gpu.py for the other flags.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

WHEELS=(
    array-record==0.8.6
    docstring-parser==0.18.0
    dm-tree==0.1.10
    googleapis-common-protos==1.76.0
    grain==0.2.18
    immutabledict==4.3.1
    importlib-resources==7.1.0
    ml-collections==1.1.0
    portpicker==1.6.0
    promise==2.3
    protobuf==7.36.2
    simple-parsing==0.1.9
    tensorboardX==2.6.5
    tensorflow-datasets==4.9.10
    tensorflow-metadata==1.21.0
    termcolor==3.3.0
    toml==0.10.2
)

folder="" arguments=()
while (($#)); do
    case $1 in
        --download)
            # One of them, promise, is published as source alone.
            exec "$PYTHON" -m pip wheel --no-deps --wheel-dir "${2:?give a folder}" "${WHEELS[@]}"
            ;;
        --wheels)
            folder=${2:?give a folder}
            shift 2
            ;;
        *)
            arguments+=("$1")
            shift
            ;;
    esac
done

if [[ $folder ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$folder"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}
"$PYTHON" -m benchmarks.gpu "${arguments[@]}"
