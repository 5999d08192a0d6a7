"""The sentences of a verdict: what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from model.drift.verdict import VerdictKind

_WORDS = {
    VerdictKind.STABLE: "Clicks are as expected in {where}.",
    VerdictKind.HANDLED: "Interest in {where} has drifted; the frozen arm lost by it, and the live arm has made good "
    "{recovered:.0%} of that.",
    VerdictKind.UNHANDLED: "Interest in {where} has drifted, and the live arm has not made it good yet.",
    VerdictKind.BROKEN_BY_US: "The live arm does worse than the frozen one in {where}, which "
    "holds: the kernel is broken.",
    VerdictKind.LABELS: "Labels in {where} are faulty: {how}.",
    VerdictKind.INPUTS: "Inputs in {where} are far from those that the model was trained on: {how}.",
    VerdictKind.TOO_LITTLE: "{where} has brought {examples:.0f} labelled examples, too few to say anything.",
}
_ADVICE = {
    VerdictKind.STABLE: "Nothing is to be done.",
    VerdictKind.HANDLED: "Nothing is urgent; pretrain the backbone again if it lasts.",
    VerdictKind.UNHANDLED: "Watch whether the live arm recovers within some thousand examples; if not, pretrain the "
    "backbone on recent data.",
    VerdictKind.BROKEN_BY_US: "Pin an earlier kernel or serve the frozen arm (`driftline kernel`), then look at "
    "what was published last.",
    VerdictKind.LABELS: "Look at what sends feedback: nothing that is learned meanwhile can be trusted.",
    VerdictKind.INPUTS: "Look at what fills profiles and features, and at the backbone that is loaded.",
    VerdictKind.TOO_LITTLE: "Wait for more traffic, or judge it together with others.",
}
HOW = {
    "flipped": "clicks and non-clicks are mixed up",
    "lost": "clicks are missing, and what is left is in the expected order",
    "fake": "there are clicks that nobody is expected to make",
    "aside": "the gate sets them aside",
    "late": "more feedback comes late than can be learned from",
    "paused": "ingest has not told how far feedback was read",
}


def words(kind: VerdictKind, where: str, evidence: Mapping[str, float | str], *, shared: str = "") -> str:
    """The sentence of a verdict; `shared` names the stratum whose verdict it shares."""
    name = "the group" if where == "group" else where
    figures = {"recovered": 0.0, "examples": 0.0, "how": "", **evidence, "where": name}
    if kind is VerdictKind.TOO_LITTLE and not figures["examples"]:
        text = f"{name} has brought no labelled example yet: nothing is known."
    else:
        text = _WORDS[kind].format(**figures)
    text = text[0].upper() + text[1:] if name == "the group" else text
    return f"{text[:-1]}, as in the whole group." if shared else text


def advice(kind: VerdictKind) -> str:
    """What to do."""
    return _ADVICE[kind]
