"""`augtrain evaluate`: how well label maps agree with true ones."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option("--classes", "classes_file", type=click.Path(path_type=Path), help="TOML or JSON, id -> name; else as the headers say.")
@click.option("--ignore", type=click.IntRange(0, 65535), metavar="ID", help="Voxels with this id in the truth count nowhere.")
@click.option("--boundary-tolerance-mm", type=float, metavar="MM", help="Of the boundary F-score; else 0.75 % of the image's diagonal.")
@click.option("--only-predicted", is_flag=True, help="Leave out truths without a prediction, which are refused otherwise.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="Also write one row per volume and class.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def evaluate(
    predictions: Path,
    truth: Path,
    classes_file: Path | None,
    ignore: int | None,
    boundary_tolerance_mm: float | None,
    only_predicted: bool,
    csv_file: Path | None,
    as_json: bool,
) -> int:
    """Score PREDICTIONS against TRUTH: two NIfTI label maps, or two folders of them with equal file names.

    Prints, per class: Dice, Jaccard, volumetric overlap error, relative volume difference, sensitivity, specificity, precision, average,
    root mean square, maximum and 95th percentile distance of the surfaces in mm, and the boundary F-score; and scores of all classes.

    A voxel is on the surface of its class if it has a face to another class or lies on the border of the image. Distances are between the
    centres of such voxels; averages pool both surfaces, and HD95 is the larger of the two directions. A score that has no meaning, such
    as a distance to an organ that is not there, is empty, and the reason is printed.

    Nothing is resampled, but a label map whose axes are only exchanged or turned round against the other's is taken. A volume that cannot
    be scored is named with the reason, and the others are scored.

    Exit code 0: all volumes are scored; 3: some are not; 2: none is.
    """
    from augclient.contract import EXIT_NOTHING_USABLE, EXIT_SOME_REFUSED
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from augtrain.evaluate import evaluate as score
    from augtrain.evaluate import find_cases, print_evaluation, write_csv
    from augtrain.evaluate.classes import read_classes

    classes = None if classes_file is None else read_classes(classes_file)
    cases, alone = find_cases(predictions, truth, only_predicted=only_predicted)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("evaluate", total=len(cases))
        evaluation = score(
            cases,
            refused=alone,
            classes=classes,
            ignore=ignore,
            boundary_tolerance_mm=boundary_tolerance_mm,
            on_case=lambda _: progress.advance(task),
        )
    if as_json:
        click.echo(json.dumps(evaluation.to_dict(), indent=1, allow_nan=False))
    else:
        print_evaluation(evaluation)
    if csv_file is not None:  # last: what was computed is shown even where the file cannot be written
        write_csv(csv_file, evaluation)
    if not evaluation.reports:
        return EXIT_NOTHING_USABLE
    return EXIT_SOME_REFUSED if evaluation.refused else 0
