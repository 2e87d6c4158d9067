"""English word lists that say how something is said. Other languages are judged by punctuation and sound alone."""

from __future__ import annotations

import re

_EDGES = re.compile(r"^[^\w$€£%#]+|[^\w%]+$")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTRAST = _words(
    "but however although though instead actually despite unless except yet rather contrary wrong myth nobody never "
    "nothing surprising surprised unexpected unlike whereas"
)
EMPHASIS = _words(
    "amazing incredible best worst biggest greatest hardest easiest only always secret truth crazy insane huge love "
    "hate fear afraid dead die died killed money free mistake mistakes problem problems fail failed failure success "
    "important critical dangerous terrible beautiful perfect impossible shocking honest honestly remember imagine "
    "changed change everything everybody everyone first last most"
)
SECOND_PERSON = _words("you your yours yourself you're you'll you've you'd yourselves")
NUMBERS = _words(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion percent half "
    "twice double third quarter dozen"
)
QUESTION_STARTS = _words(
    "who what when where why how which whose is are was were do does did can could would should will have has isn't "
    "aren't don't doesn't didn't won't"
)
"""A first word that makes a question likely where there are no question marks. Only these: see `asks`."""
STRONG_QUESTION_STARTS = _words("who what why how where")
DANGLING = _words(
    "and so but or nor because which that then than he she it they them his her its their this these those there "
    "also therefore thus hence such anyway otherwise"
)
"""A clip that opens with one of these leans on what was said before."""
FILLERS = _words("um uh er hmm ah oh well like okay ok yeah yes right so now and basically")
STOP = _words(
    "a about above after again against all am an and any are aren't as at be because been before being below between "
    "both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each few for from "
    "further get go going gonna got had hadn't has hasn't have haven't having he he'd he'll he's her here here's hers "
    "herself him himself his how i i'd i'll i'm i've if in into is isn't it it's its itself just know let's like me "
    "more most my myself no nor not now of off ok okay on once one only or other our ours ourselves out over own "
    "really right said same say see she she'd she'll she's should so some such than that that's the their theirs them "
    "themselves then there there's these they they'd they'll they're they've thing things think this those through to "
    "too um uh under until up very was wasn't we we'd we'll we're we've well were weren't what what's when when's "
    "where where's which while who who's whom why will with won't would wouldn't yeah yes you you'd you'll you're "
    "you've your yours yourself yourselves"
)


def bare(text: str) -> str:
    """A word without its punctuation, in lower case."""
    return _EDGES.sub("", text).lower().replace("’", "'")


def is_number(word: str) -> bool:
    """Whether a bare word is a figure or a number word above one."""
    return word in NUMBERS or any(c.isdigit() for c in word)


def asks(words: list[str], text_end: str, *, punctuated: bool) -> bool:
    """Whether a sentence (bare words, its last word as written) is a question."""
    if punctuated:
        return "?" in text_end or "？" in text_end
    return len(words) > 2 and words[0] in STRONG_QUESTION_STARTS
