"""The paper's protocol, on its kind of embeddings: ``python benchmarks/paper``.

Each finished fit is stored, so that a run that was stopped goes on where it was. Any
folder of ``.npz`` files with ``X_train``, ``y_train``, ``X_test`` and ``y_test`` will
do: ``python benchmarks/paper --embeddings FOLDER --out FOLDER``.
"""

import argparse
import sys
from pathlib import Path

import report
from banking77 import embed_banking77
from experiments import EXPERIMENTS
from protocol import Data, Results, run

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared/data"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--embeddings",
        type=Path,
        help="folder of .npz files (default: those of ../shared, and Banking77)",
    )
    parser.add_argument(
        "--results", type=Path, default=HERE / "results", help="folder of finished fits"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: docs/benchmarks)"
    )
    parser.add_argument(
        "--redo", nargs="*", default=[], metavar="METHOD", help="methods to fit again"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write up what is there; fit nothing"
    )
    args = parser.parse_args()
    args.results.mkdir(parents=True, exist_ok=True)

    if args.embeddings is None:
        paths = sorted((SHARED / "embeddings").glob("*.npz"))
        banking77 = embed_banking77(SHARED / "banking77", args.results)
        paths += [banking77] if banking77 else []
        out = args.out or HERE.parents[1] / "docs/benchmarks"
    else:
        paths = sorted(args.embeddings.glob("*.npz"))
        out = args.out or args.results / "report"
    if not paths:
        folder = args.embeddings or SHARED / "embeddings"
        sys.exit(
            f"There is no .npz file in {folder}. Name a folder that has some: "
            "python benchmarks/paper --embeddings FOLDER"
        )
    out.mkdir(parents=True, exist_ok=True)

    data = Data(paths)
    cells = list(dict.fromkeys(cell for part in EXPERIMENTS for cell in part(data)))
    results = Results(args.results / "results.jsonl")
    rows = run(cells, data, results, redo=args.redo, fit=not args.report_only)
    report.write(rows, data, out)
    print(out / "paper.md")


if __name__ == "__main__":
    main()
