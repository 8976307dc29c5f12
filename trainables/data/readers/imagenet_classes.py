"""The members of the paper's five ImageNet subsets (table 8) with their WordNet IDs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A class of a subset: its name in the paper, and its synset's WordNet ID and words."""

    name: str
    wnid: str
    words: str


SUBSETS: dict[str, tuple[Member, ...]] = {
    "dog": (
        Member("Ibizan hound", "n02091244", "Ibizan hound, Ibizan Podenco"),
        Member("bluetick", "n02088632", "bluetick"),
        Member("beagle", "n02088364", "beagle"),
        Member("Afghan hound", "n02088094", "Afghan hound, Afghan"),
        Member("Weimaraner", "n02092339", "Weimaraner"),
        Member("Saluki", "n02091831", "Saluki, gazelle hound"),
        Member("redbone", "n02090379", "redbone"),
        Member("otterhound", "n02091635", "otterhound, otter hound"),
        Member("Norwegian elkhound", "n02091467", "Norwegian elkhound, elkhound"),
        Member("basset hound", "n02088238", "basset, basset hound"),
        Member("Scottish deerhound", "n02092002", "Scottish deerhound, deerhound"),
        Member("bloodhound", "n02088466", "bloodhound, sleuthhound"),
    ),
    "car": (
        Member("Model T", "n03777568", "Model T"),
        Member("race car", "n04037443", "racer, race car, racing car"),
        Member("sports car", "n04285008", "sports car, sport car"),
        Member("minivan", "n03770679", "minivan"),
        Member("ambulance", "n02701002", "ambulance"),
        Member("cab", "n02930766", "cab, hack, taxi, taxicab"),
        Member(
            "beach wagon",
            "n02814533",
            "beach wagon, station wagon, wagon, estate car, beach waggon, station waggon, waggon",
        ),
        Member("jeep", "n03594945", "jeep, landrover"),
        Member("convertible", "n03100240", "convertible"),
        Member("limo", "n03670208", "limousine, limo"),
    ),
    "snake": (
        Member("ringneck snake", "n01728920", "ringneck snake, ring-necked snake, ring snake"),
        Member("vine snake", "n01739381", "vine snake"),
        Member("hognose snake", "n01729322", "hognose snake, puff adder, sand viper"),
        Member("thunder snake", "n01728572", "thunder snake, worm snake, Carphophis amoenus"),
        Member("garter snake", "n01735189", "garter snake, grass snake"),
        Member("king snake", "n01734418", "king snake, kingsnake"),
        Member("night snake", "n01740131", "night snake, Hypsiglena torquata"),
        Member("green snake", "n01729977", "green snake, grass snake"),
        Member("water snake", "n01737021", "water snake"),
    ),
    "spider": (
        Member("tarantula", "n01774750", "tarantula"),
        Member("Argiope aurantia", "n01773157", "black and gold garden spider, Argiope aurantia"),
        Member("barn spider", "n01773549", "barn spider, Araneus cavaticus"),
        Member("black widow", "n01774384", "black widow, Latrodectus mactans"),
        Member("garden spider", "n01773797", "garden spider, Aranea diademata"),
        Member("wolf spider", "n01775062", "wolf spider, hunting spider"),
    ),
    "fungus": (
        Member("stinkhorn", "n13040303", "stinkhorn, carrion fungus"),
        Member("bolete", "n13054560", "bolete"),
        Member(
            "hen-of-the-woods",
            "n13052670",
            "hen-of-the-woods, hen of the woods, Polyporus frondosus, Grifola frondosa",
        ),
        Member("earthstar", "n13044778", "earthstar"),
        Member("gyromitra", "n13037406", "gyromitra"),
        Member("coral fungus", "n12985857", "coral fungus"),
    ),
}

TRAIN_TOTALS = {"dog": 14864, "car": 13000, "snake": 11700, "spider": 7800, "fungus": 7800}
"""Number of training images of each subset (paper, table 5)."""
