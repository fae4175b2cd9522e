"""The closed knowledge base of the embedded world, and every whole word that its texts are made of."""

from collections.abc import Mapping

WORLD_VERSION = 2
"""Changes whenever the same seed would give another world."""

COUNTRIES: Mapping[str, tuple[str, str, str]] = {
    "Japan": ("Tokyo", "yen", "Asia"),
    "India": ("Delhi", "rupee", "Asia"),
    "Thailand": ("Bangkok", "baht", "Asia"),
    "Vietnam": ("Hanoi", "dong", "Asia"),
    "China": ("Beijing", "yuan", "Asia"),
    "Mongolia": ("Ulaanbaatar", "tugrik", "Asia"),
    "Poland": ("Warsaw", "zloty", "Europe"),
    "Sweden": ("Stockholm", "krona", "Europe"),
    "Norway": ("Oslo", "krone", "Europe"),
    "Hungary": ("Budapest", "forint", "Europe"),
    "Ukraine": ("Kyiv", "hryvnia", "Europe"),
    "Bulgaria": ("Sofia", "lev", "Europe"),
    "Germany": ("Berlin", "euro", "Europe"),
    "Switzerland": ("Bern", "franc", "Europe"),
    "Kenya": ("Nairobi", "shilling", "Africa"),
    "Egypt": ("Cairo", "pound", "Africa"),
    "Nigeria": ("Abuja", "naira", "Africa"),
    "Ghana": ("Accra", "cedi", "Africa"),
    "Morocco": ("Rabat", "dirham", "Africa"),
    "Zambia": ("Lusaka", "kwacha", "Africa"),
    "Algeria": ("Algiers", "dinar", "Africa"),
    "Brazil": ("Brasilia", "real", "America"),
    "Peru": ("Lima", "sol", "America"),
    "Canada": ("Ottawa", "dollar", "America"),
    "Chile": ("Santiago", "peso", "America"),
    "Paraguay": ("Asuncion", "guarani", "America"),
}
"""Country to its capital, currency and continent. Capitals and currencies are unique, so they can be inverted."""

ATTRIBUTES = ("capital", "currency", "continent")
INVERTIBLE = ("capital", "currency")
CONTINENTS = ("Asia", "Europe", "Africa", "America")

_NAMES = (
    *("Ana", "Bob", "Cem", "Dina", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jude"),
    *("Kai", "Lena", "Milo", "Nora", "Otto", "Pia", "Quin", "Rosa", "Sam", "Tess"),
    *("Uma", "Vik", "Wanda", "Xena", "Yuri", "Zoe", "Amir", "Bela", "Carl", "Dora"),
)
_HOMES = list(COUNTRIES)
RESIDENTS: Mapping[str, str] = {name: _HOMES[(7 * i + 3) % len(_HOMES)] for i, name in enumerate(_NAMES)}
"""Thirty residents, each with the country that he or she lives in."""

NAMES = tuple(RESIDENTS)
OBJECTS = ("pens", "books", "coins", "apples", "stamps", "shells", "cards", "beads", "nuts", "balls")
GAINS = ("buys", "finds")
LOSSES = ("loses", "sells")


def attribute(country: str, name: str) -> str:
    """The capital, currency or continent of a country."""
    return COUNTRIES[country][ATTRIBUTES.index(name)]


def country_with(name: str, value: str) -> str | None:
    """The country whose capital or currency is `value`; None where there is none."""
    return _INVERSE.get((name, value))


_INVERSE = {(name, attribute(country, name)): country for country in COUNTRIES for name in INVERTIBLE}


def fact(country: str, name: str) -> str:
    """The sentence that states one attribute of a country."""
    value = attribute(country, name)
    return f"{country} is in {value}." if name == "continent" else f"The {name} of {country} is {value}."


def inverse_fact(name: str, value: str) -> str:
    """The sentence that states which country has this capital or currency."""
    return f"{value} is the {name} of {_INVERSE[name, value]}."


def home_fact(resident: str) -> str:
    """The sentence that states where a resident lives."""
    return f"{resident} lives in {RESIDENTS[resident]}."


_TEMPLATE_WORDS = (
    *("What", "is", "Tell", "me", "Give", "the", "of", "in", "and", "or", "has", "Then", "doubles", "them", "How"),
    *("many", "now", "Who", "lives", "country", "with", "where", "there", "capital", "currency", "continent"),
    *("output", "print", "closing", "brackets", "open", "close", "sorted", "as", "JSON", "reverse", "plural"),
    *("upper", "case", "time", "after", "weeks", "days", "hours", "minutes", "seconds", "Answer", "The"),
)

WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *_TEMPLATE_WORDS,
            *GAINS,
            *LOSSES,
            *OBJECTS,
            *COUNTRIES,
            *(value for row in COUNTRIES.values() for value in row),
            *NAMES,
        ]
    )
)
"""Every whole word of the world; all else (digits, operators, letters of random words) is single characters."""
