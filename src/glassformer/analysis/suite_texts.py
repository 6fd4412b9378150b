"""The words and sentences that the suites are made of, all written for them."""

from __future__ import annotations

NOUNS = [
    ("key", "keys"),
    ("cabinet", "cabinets"),
    ("teacher", "teachers"),
    ("window", "windows"),
    ("bridge", "bridges"),
    ("picture", "pictures"),
    ("farmer", "farmers"),
    ("garden", "gardens"),
    ("doctor", "doctors"),
    ("letter", "letters"),
    ("song", "songs"),
    ("ship", "ships"),
    ("house", "houses"),
    ("student", "students"),
]
"""One, and several."""
LINKS = ["near", "behind", "beside", "next to", "in front of", "across from"]
VERBS = [("is", "are"), ("was", "were"), ("has", "have")]

WORDS = ["red", "blue", "green", "north", "south", "water", "stone", "paper", "seven", "ten", "cat", "dog"]

OWNERS = ["Anna", "Tom", "Mary", "Peter", "Sarah", "David", "Laura", "James", "Emma", "Paul"]
POSSESSIONS = ["ball", "coin", "lamp", "hat", "book", "cup", "bell", "map", "rope", "drum"]

CONTROL = [
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "January February March April May June July August",
    "one two three four five six seven eight nine ten",
    "first second third fourth fifth sixth seventh",
    "A B C D E F G H I J K L",
    "Mercury Venus Earth Mars Jupiter Saturn",
    "ten nine eight seven six five four three two one",
    "She opened the door and walked into the room.",
    "He was so tired that he fell asleep on the couch.",
    "The children played in the park until it got dark.",
    "I would like a cup of tea with milk and sugar.",
    "The train was late because of the heavy snow.",
    "They got married and lived happily ever after.",
    "Please turn off the lights before you go to bed.",
    "He put on his coat and went out into the cold.",
    "We had to wait for more than an hour.",
    "It is raining outside, so take an umbrella with you.",
    "The capital of France is Paris.",
    "Water freezes at zero degrees Celsius.",
    "In the morning she drinks coffee and reads the newspaper.",
    "My grandmother was born in a small village.",
    "The dog barked at the mailman.",
    "You should brush your teeth twice a day.",
    "Thank you very much for your help.",
    "Once upon a time there lived a king who had three daughters.",
    "A year has twelve months and a week has seven days.",
    "The doctor told him to stay in bed for a few days.",
    "She has been working as a teacher for many years.",
    "Can you tell me how to get to the nearest station?",
    "The earth moves around the sun.",
    "Birds build nests in trees and lay eggs.",
    "He forgot his keys at home and could not get in.",
    "There is no doubt that this will take a long time.",
    "On the other hand, it might be a good idea.",
    "The bread is baked in the oven at a high temperature.",
    "As far as I know, nobody has ever seen it.",
    "They sat around the fire and told stories all night long.",
    "The cat is sleeping under the table.",
    "Last summer we spent two weeks at the beach.",
    "If you mix blue and yellow, you get green.",
]
"""Ordinary lines that a small language model can go on with, and in which nothing has to be copied."""
