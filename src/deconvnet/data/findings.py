"""What the looks at all pictures of a split say together, in words."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from deconvnet.data.class_statistics import ClassStatistics
from deconvnet.data.duplicates import Duplicate
from deconvnet.data.look import Look, Problem, almost_black, one_colour
from deconvnet.data.pairs import PairDataset
from deconvnet.data.sample import Dataset

MUCH_IGNORED = 0.5
"""Share of ignored pixels from which it is worth a word."""

RARE_SHARE = 0.001
"""Share of the labelled pixels under which a class is rare."""

FEW_PICTURES = 3
"""Pictures under which a class is rare."""

MANY_EMPTY = 0.1
"""Share of masks with background alone from which it is worth a word."""

SMALL = 32
"""Pixels of the shorter side under which a picture is hardly worth segmenting."""


class Sizes(NamedTuple):
    """How large the pictures of a split are, (height, width) in pixels."""

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    different: int

    @property
    def in_words(self) -> str:
        """The sizes, width first, as people write them."""
        if self.different == 1:
            return f"all pictures have {self.median[1]} x {self.median[0]} pixels."
        shown = [
            f"{size[1]} x {size[0]}" for size in (self.smallest, self.largest, self.median)
        ]
        return (
            f"{self.different} sizes from {shown[0]} to {shown[1]} pixels, in the middle "
            f"{shown[2]}."
        )


def sizes_of(looks: Iterable[Look]) -> Sizes | None:
    """The sizes of the pictures that could be read; None if none could."""
    sizes = [look.size for look in looks if look.size is not None]
    if not sizes:
        return None
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    return Sizes(ordered[0], ordered[len(ordered) // 2], ordered[-1], len(set(sizes)))


def problems_of_whole(dataset: PairDataset, statistics: ClassStatistics) -> list[Problem]:
    """What the classes of a split lack."""
    split = dataset.split
    if not dataset.pairs:
        nothing = f"The split {split} has no picture; add some."
        if dataset.unlabelled:
            nothing = f"Nothing in the split {split} is labelled; label some of its pictures."
        return [Problem("error", split, nothing), *problems_of_unlabelled(dataset)]
    problems = problems_of_unlabelled(dataset)
    names = dataset.classes.names
    present = [name for name, n in zip(names, statistics.pixels, strict=True) if n]
    absent = [name for name in names if name not in present]
    if len(present) < 2:
        sentence = (
            f"The masks of {split} hold {present[0] if present else 'no class'} alone; there "
            "is nothing to tell apart. Label at least two classes."
        )
        problems.append(Problem("error", split, sentence))
    elif absent:
        count = (
            "1 class never occurs" if len(absent) == 1 else f"{len(absent)} classes never occur"
        )
        sentence = f"{count} in {split}: {_some(absent)}."
        problems.append(Problem("warning", split, sentence))
    if statistics.ignored_share > MUCH_IGNORED:
        sentence = f"{statistics.ignored_share:.0%} of the pixels of {split} are ignored."
        problems.append(Problem("warning", split, sentence))
    if split == "train" and len(present) > 1:
        problems += _imbalance(names, statistics)
    return problems


def problems_of_unlabelled(dataset: PairDataset) -> list[Problem]:
    """A word on the pictures that were left out."""
    left_out = dataset.unlabelled
    if not left_out:
        return []
    sentence = (
        f"{_pictures(len(left_out))} without any annotation "
        f"{'is' if len(left_out) == 1 else 'are'} left out: {_some(left_out)}."
    )
    return [Problem("warning", dataset.split, sentence)]


def _imbalance(names: Sequence[str], statistics: ClassStatistics) -> list[Problem]:
    """A word on the classes that hardly occur."""
    shares = statistics.pixels / max(int(statistics.pixels.sum()), 1)
    few = min(FEW_PICTURES, statistics.pictures.max() / 2)  # of two pictures none is few
    rare = [
        f"{name} ({share:.2%} of the pixels, {pictures} picture{'s' * (pictures != 1)})"
        for name, share, pictures in zip(
            names, shares.tolist(), statistics.pictures.tolist(), strict=True
        )
        if 0 < share < RARE_SHARE or 0 < pictures < few
    ]
    if not rare:
        return []
    sentence = (
        f"Rare in train: {_some(rare)}. They will hardly be learned: label more of them, or "
        "let them count more with --class_weights root_median."
    )
    return [Problem("warning", "train", sentence)]


def problems_of_files(dataset: PairDataset, looks: Sequence[Look]) -> list[Problem]:
    """What several files of a split have in common, said once for all of them."""
    found = [
        _together(dataset, looks, chosen, sentence)
        for chosen, sentence in (
            (
                [look for look in looks if look.compressed and not look.problems],
                "{n} of {split} are JPEG files, whose compression changes labels at the "
                "borders ({first}); save masks as PNG.",
            ),
            (
                [look for look in looks if look.palette_conflict],
                "In {n} of {split} the numbers and the colours of the palette name different "
                "classes ({first}); the colours are followed where all of them are known. Save "
                "the masks with the palette of the class file.",
            ),
            (
                [look for look in looks if look.orientation != 1],
                "The EXIF of {n} of {split} says that the camera was turned ({first}); "
                "pictures are turned upright when read, so see that the masks were drawn on "
                "the upright ones.",
            ),
            (
                [look for look in looks if look.fingerprint and one_colour(look)],
                "{n} of {split} show a single colour ({first}); are they the right files?",
            ),
            (
                [
                    look
                    for look in looks
                    if look.fingerprint and almost_black(look) and not one_colour(look)
                ],
                "{n} of {split} are almost black ({first}); are they masks, or pictures of "
                "more than 8 bits saved as 8?",
            ),
            (
                [look for look in looks if look.size and min(look.size) < SMALL],
                f"{{n}} of {{split}} have fewer than {SMALL} pixels on a side ({{first}}).",
            ),
        )
    ]
    found += [_mixed_kinds(dataset, looks), _empty_masks(dataset, looks)]
    return [problem for problem in found if problem]


def _together(
    dataset: PairDataset, looks: Sequence[Look], chosen: Sequence[Look], sentence: str
) -> Problem | None:
    if not chosen:
        return None
    said = sentence.format(
        n=f"{len(chosen)} of {len(looks)} pictures",
        split=dataset.split,
        first=_first(chosen),
    )
    return Problem("warning", dataset.split, said, dataset.split, _names(chosen))


def _mixed_kinds(dataset: PairDataset, looks: Sequence[Look]) -> Problem | None:
    kinds = Counter(look.kind for look in looks if look.counts is not None)
    if "RGB" not in kinds or len(kinds) == 1:
        return None
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    fewest = kinds.most_common()[-1][0]
    odd = [look for look in looks if look.kind == fewest]
    sentence = (
        f"The masks of {dataset.split} are of several kinds ({counted}; {_first(odd)}); "
        "see that the classes are the same in all, or save them alike."
    )
    return Problem("warning", dataset.split, sentence, dataset.split, _names(odd))


def _empty_masks(dataset: PairDataset, looks: Sequence[Look]) -> Problem | None:
    background = dataset.classes.background
    if background is None:
        return None
    empty = [
        look
        for look in looks
        if look.counts is not None
        and look.counts[background] > 0
        and look.counts[: len(dataset.classes)].sum() == look.counts[background]
    ]
    if len(empty) <= MANY_EMPTY * len(looks):
        return None
    sentence = (
        f"{len(empty)} of {len(looks)} masks of {dataset.split} hold background alone "
        f"({_first(empty)}); is that meant, or were they not labelled?"
    )
    return Problem("warning", dataset.split, sentence, dataset.split, _names(empty))


def problems_of_duplicates(duplicates: Sequence[Duplicate]) -> Iterator[Problem]:
    """The duplicates in words, the worst first."""
    groups: dict[tuple[str, str, str], list[Duplicate]] = {}
    for duplicate in duplicates:
        key = (duplicate.kind, duplicate.split, duplicate.other_split)
        groups.setdefault(key, []).append(duplicate)
    for (kind, split, other), members in groups.items():
        first = f"{members[0].other_name} as {members[0].name}"
        count = len(members)
        are = "is" if count == 1 else "are"
        if split == other:
            sentence = (
                f"{_pictures(count)} of {split} {are} there twice under different names, such "
                f"as {first}; keep one of each."
            )
        elif kind == "same":
            sentence = (
                f"{_pictures(count)} of {other} {are} the same file as in {split}, such as "
                f"{first}; scores on them say nothing. Take them out of one."
            )
        else:
            sentence = (
                f"{_pictures(count)} of {other} {'looks' if count == 1 else 'look'} nearly the "
                f"same as one in {split}, such as {first}; scores on them are too good. Put "
                "such pictures (frames of one film, crops of one photo) into one split, with "
                "lists."
            )
        names = tuple(member.other_name for member in members)
        doubles = tuple((member.split, member.name) for member in members)
        yield Problem("warning", other, sentence, other, names, doubles)


def problems_between(
    splits: Mapping[str, Dataset], statistics: Mapping[str, ClassStatistics]
) -> Iterator[Problem]:
    """Classes that are scored and never learned."""
    if "train" not in statistics:
        return
    unseen = statistics["train"].pixels == 0
    for split in statistics:
        classes = splits[split].classes
        missing = np.flatnonzero(unseen & (statistics[split].pixels > 0)).tolist()
        if missing:
            names = [classes.names[label] for label in missing]
            sentence = (
                f"{_some(names)} occur in {split} and never in train; a network cannot learn "
                "them. Move some of their pictures to train."
            )
            yield Problem("warning", split, sentence)


def _first(looks: Sequence[Look]) -> str:
    """The first of several files, in words."""
    return looks[0].pair.name if len(looks) == 1 else f"such as {looks[0].pair.name}"


def _names(looks: Iterable[Look]) -> tuple[str, ...]:
    return tuple(look.pair.name for look in looks)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:6]) + (", ..." if words[6:] else "")
