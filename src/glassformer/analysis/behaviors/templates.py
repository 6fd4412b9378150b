"""Words and sentence templates of the behavior tasks."""

from __future__ import annotations

import re
from itertools import product

_SINGULARS = "key cabinet teacher window bridge picture farmer garden doctor letter song ship house student"
NOUNS = [(noun, f"{noun}s") for noun in _SINGULARS.split()]
"""Singular and plural forms."""
PREPOSITIONS = ["near", "behind", "beside", "next to", "in front of", "across from"]
VERBS = [("is", "are"), ("was", "were"), ("has", "have")]

FILLERS = ["red", "blue", "green", "north", "south", "water", "stone", "paper", "seven", "ten", "cat", "dog"]

NAMES = ["Anna", "Tom", "Mary", "Peter", "Sarah", "David", "Laura", "James", "Emma", "Paul"]
OBJECTS = ["ball", "coin", "lamp", "hat", "book", "cup", "bell", "map", "rope", "drum"]


def _runs(words: str, length: int) -> str:
    """A template with an alternative for each run of ``length`` successive words."""
    split = words.split()
    starts = range(len(split) - length + 1)
    return f"<{'|'.join(dict.fromkeys(' '.join(split[start : start + length]) for start in starts))}>"


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday "
MONTHS = "January February March April May June July August September October November December "
NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"

SHE = "<She|Anna|Mary|Sarah|Laura|Emma|My sister|His wife|The old woman|Their mother>"
HE = "<He|Tom|Peter|David|James|Paul|My brother|Her husband|The old man|Their father>"
HIM = "<him|Tom|Peter|David|James|Paul|my brother|her husband|the old man|their father>"

SENTENCES = [
    _runs(DAYS * 2, 7),
    _runs(MONTHS * 2, 8),
    _runs(NUMBERS, 10),
    _runs(" ".join(reversed(NUMBERS.split())), 10),
    _runs(ORDINALS, 7),
    _runs("A B C D E F G H I J K L M N O P Q R S T U V W X Y Z", 12),
    _runs(PLANETS, 6),
    f"{SHE} opened the <door|gate|front door> and walked into the <room|house|kitchen|garden>.",
    f"{HE} was so tired that he fell asleep on the <couch|sofa|floor|train|bus>.",
    "The <children|boys|girls|kids> played in the <park|garden|yard|street> until it got dark.",
    f"{SHE} would like a cup of <tea|coffee> with milk and sugar.",
    "The <train|bus|plane|mail> was <late|delayed> because of the heavy <snow|rain|storm|fog>.",
    f"{HE} and <his bride|the princess|his first love> got married and lived happily ever after.",
    "Please turn off the <lights|television|radio|heating> before you <go to bed|leave|go home>.",
    f"{HE} put on his <coat|hat|boots|gloves> and went out into the <cold|rain|snow|street>.",
    "<We|They|You> had to wait for more than <an hour|a week|a month|a year|ten minutes>.",
    "It is raining <outside|again|today>, so <take|bring> an umbrella with you.",
    "The capital of <France is Paris|Italy is Rome|Spain is Madrid|Germany is Berlin|Russia is Moscow|"
    "Japan is Tokyo|Egypt is Cairo|Greece is Athens|Austria is Vienna|Portugal is Lisbon>.",
    "Water <freezes at zero|boils at a hundred> degrees Celsius.",
    "In the <morning|afternoon|evening> <she|Anna|Mary|my sister|his wife> drinks <coffee|tea> and reads the "
    "newspaper.",
    "My <grandmother|grandfather|mother|father|uncle|aunt> was born in a small <village|town>.",
    "The dog barked at the <mailman|cat|stranger|neighbors|moon|car>.",
    "You should <brush your teeth|wash your face|feed the cat|water the plants> twice a day.",
    "Thank you very much for your <help|time|letter|support|patience|kindness|advice>.",
    "Once upon a time there lived a <king|queen|farmer|merchant> who had three <daughters|sons|wishes>.",
    "A <year has twelve months|week has seven days|day has twenty four hours|minute has sixty seconds>.",
    f"The doctor told {HIM} to stay in bed for a few <days|weeks>.",
    f"{SHE} has been working as a <teacher|nurse|doctor|lawyer|waitress> for many years.",
    "Can you tell me how to get to the <nearest|next> <station|hospital|bank|airport|hotel>?",
    "The <earth|planet Mars|planet Venus> moves around the sun.",
    "Birds build nests in <trees|the spring> and lay eggs.",
    f"{HE} forgot his <keys|wallet|phone|umbrella|glasses> at home.",
    "There is no doubt that this will <take a long time|cost a lot of money|be very difficult>.",
    "On the other hand, it <might|may|could> be a <good|bad|great> idea.",
    "The <bread|cake|pie|pizza|fish> is baked in the oven at a high temperature.",
    "As far as <I|we> know, nobody has ever <seen|done|tried|heard of> it.",
    "They sat around the <fire|table> and <told stories|sang songs|played cards> all night long.",
    "The <cat|dog|baby|child> is sleeping <under the table|on the bed|in the other room>.",
    "Last <summer|winter|year|spring> we spent two weeks at the <beach|lake|sea>.",
    "If you mix <blue and yellow, you get green|red and white, you get pink|red and blue, you get purple>.",
]
"""Templates of predictable sentences and sequences in which no token is copied from the context.

``<a|b>`` is a choice: ``expand_template`` gives a line for each combination of choices.
"""


def expand_template(template: str) -> list[str]:
    """All lines that a template stands for."""
    parts = re.split("<(.*?)>", template)  # fixed text and choices alternate
    return list(map("".join, product(*(part.split("|") for part in parts))))
