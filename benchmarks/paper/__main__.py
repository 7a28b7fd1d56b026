"""Compare heads on embeddings, by the paper's protocol and under real conditions.

Each finished fit is stored, so that a run that was stopped goes on where it was. Any
folder of ``.npz`` files with ``X_train``, ``y_train``, ``X_test`` and ``y_test`` will
do: ``python benchmarks/paper --embeddings FOLDER``. README.md beside this says more.
"""

import argparse
import sys
from pathlib import Path

import report
from banking77 import embed_banking77
from experiments import EXPERIMENTS, Plan, quick
from methods import METHODS, load_methods
from protocol import Data, Results, run, settings_of, without_repeats

HERE = Path(__file__).parent
SHARED = HERE.parents[2] / "shared/data"


def parse():
    parser = argparse.ArgumentParser(
        prog="python benchmarks/paper", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--embeddings",
        type=Path,
        metavar="FOLDER",
        help="folder of .npz files with X_train, y_train, X_test, y_test (default: "
        "those of ../shared, and Banking77)",
    )
    parser.add_argument(
        "--methods",
        type=Path,
        metavar="FILE",
        help="Python file of your methods: METHODS = {name: callable(seed) -> "
        "classifier}",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one draw, fewer shots, no sweeps: minutes in place of an hour",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=HERE / "results",
        metavar="FOLDER",
        help="folder of finished fits (default: benchmarks/paper/results)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder of paper.md, paper.tex and the pictures (default: report in the "
        "folder of finished fits; docs/benchmarks for all of ../shared)",
    )
    parser.add_argument(
        "--redo", nargs="*", default=[], metavar="METHOD", help="methods to fit again"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write up what is there; fit nothing"
    )
    return parser.parse_args()


def main():
    args = parse()
    args.results.mkdir(parents=True, exist_ok=True)
    own = load_methods(args.methods) if args.methods else {}
    out = args.results / "report"
    if args.embeddings is None:
        paths = sorted((SHARED / "embeddings").glob("*.npz"))
        banking77 = embed_banking77(SHARED / "banking77", args.results)
        paths += [banking77] if banking77 else []
        if not (own or args.quick):
            out = HERE.parents[1] / "docs/benchmarks"
    else:
        paths = sorted(args.embeddings.glob("*.npz"))
    if not paths:
        folder = args.embeddings or SHARED / "embeddings"
        sys.exit(
            f"There is no .npz file in {folder}. Name a folder that has some: "
            "python benchmarks/paper --embeddings FOLDER"
        )
    out = args.out or out
    out.mkdir(parents=True, exist_ok=True)

    data = Data(paths)
    plan = quick(tuple(own)) if args.quick else Plan(tuple(own))
    methods = METHODS | own
    cells = without_repeats(
        (cell for part in EXPERIMENTS for cell in part(data, plan)), methods
    )
    results = Results(args.results / "results.jsonl")
    if not args.report_only:
        run(cells, data, results, methods, redo=args.redo)
    rows = results.of(cells, settings_of(cells, methods))
    report.write(rows, data, plan, out)
    print(out / "paper.md")


if __name__ == "__main__":
    main()
