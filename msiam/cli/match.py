"""msiam match: do two items belong together?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from msiam.cli.console import output, print_json
from msiam.errors import DataError
from msiam.paths import is_file

STRONGEST = 8  # words shown of each text


def match(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    a: Annotated[str, typer.Argument(help="A text, a .txt file of it, or a picture's file.")],
    b: Annotated[str, typer.Argument(help="Likewise.")],
    words: Annotated[
        bool, typer.Option("--words", help="Say which words of the texts make the match.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """How similar two items are, whether they are the same at the run's threshold, how sure."""
    from msiam.run import load

    opened = load(run)
    items = _item(a), _item(b)
    found = opened.match(*items)
    effects = opened.words(*items) if words else []
    if json:
        print_json(dataclasses.asdict(found) | ({"words": effects} if words else {}))
        return
    assert opened.recipe is not None  # a bare model has no threshold
    named = opened.recipe.decision
    said = named.same if found.same else named.different
    output.print(
        f"{said}: similarity {found.similarity:.4f} ({named.same} from {found.threshold:.4f}), "
        f"probability of {named.same} {found.probability:.3f} "
        f"({found.probability_at_threshold:.3f} at the threshold)"
    )
    for item, of_words in zip("ab", effects, strict=False):
        strongest = sorted(of_words, key=lambda pair: -abs(pair[1]))[:STRONGEST]
        if strongest:
            listed = ", ".join(f"{word} {effect:+.3f}" for word, effect in strongest)
            output.print(f"{item}, similarity by word: {listed}", soft_wrap=True)


def _item(argument: str) -> str:
    """The argument, or what the text file holds that it names.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    path = Path(argument)
    if path.suffix.lower() != ".txt" or (len(argument.split()) > 1 and not is_file(argument)):
        return argument
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give a text, or the file that holds it"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
