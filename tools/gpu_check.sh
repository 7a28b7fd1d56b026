#!/usr/bin/env bash
# All that is to be known of a GPU, in eight minutes: what fails, and what is fast.
#
#   tools/gpu_check.sh FOLDER
#
# Each step has its time, goes on after the failure of others, and writes what it says
# to a file of the folder as it comes; summary.txt has their ends. PYTHON is the Python
# with CuPy and PyTorch, SECONDS_IN_ALL what all steps may take together.
set -uo pipefail
out=${1:?usage: tools/gpu_check.sh FOLDER}
mkdir -p "$out" || exit
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python3}
most=${SECONDS_IN_ALL:-470}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PYTHONPATH="$PWD:$scratch/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export PYTHONDONTWRITEBYTECODE=1 SCIPY_ARRAY_API=1 CUPY_CACHE_DIR="$scratch/cupy"

step() { # name, seconds, command
  local name=$1 limit=$2 begin=$SECONDS code
  shift 2
  ((most - SECONDS < limit)) && limit=$((most - SECONDS))
  if ((limit < 10)); then
    echo "$name: no time was left" | tee -a "$out/summary.txt"
    return
  fi
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.txt" 2>&1 </dev/null
  code=$?
  ((code == 124 || code == 137)) && code="$code (out of time)"
  echo "$name: exit $code, $((SECONDS - begin)) s" | tee -a "$out/summary.txt"
  tail -n 4 "$out/$name.txt" | sed 's/^/    /'
}

environment() {
  nvidia-smi
  nvcc --version
  # The one need of ours that few have: scikit-learn brings a copy.
  "$python" -c "import array_api_compat" || "$python" - "$scratch/site" <<'END'
import shutil, sys
from pathlib import Path
import sklearn.externals
found = Path(sklearn.externals.__path__[0]) / "array_api_compat"
shutil.copytree(found, Path(sys.argv[1]) / "array_api_compat")
print("array_api_compat is the copy of scikit-learn", sklearn.__version__)
END
  "$python" - <<'END'
import importlib, platform
print("python", platform.python_version())
for name in (
    "numpy scipy sklearn array_api_compat torch cupy ml_dtypes pytest skimprint"
).split():
    try:
        module = importlib.import_module(name)
        print(name, getattr(module, "__version__", ""), module.__file__)
    except Exception as error:
        print(name, "FAILED:", repr(error))
import cupy
cupy.show_config()
END
}

# `timeout` runs programs, not functions.
export python scratch
export -f environment
step environment 40 bash -c environment
step checks 200 "$python" tools/gpu_check.py
# Kernels on the host are no news: their tests are left out.
step tests 110 "$python" -m pytest -q -p no:cacheprovider -W default --tb=short \
  -k "torch:cuda or cupy" tests/_arrays/test_device.py tests/test_registries.py \
  tests/cluster/test_grouped_kmeans.py tests/classifier/test_classifier_cv.py
step benchmark 140 "$python" benchmarks/gpu.py
for tool in memcheck racecheck; do
  step $tool 60 compute-sanitizer --tool $tool --print-limit 20 \
    "$python" tools/gpu_check.py small
done
cat "$out/summary.txt"
