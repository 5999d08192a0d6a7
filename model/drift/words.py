"""The sentences of a verdict: what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

from model.drift.verdict import VerdictKind

_WORDS = {
    VerdictKind.STABLE: "Clicks are as expected in {where}.",
    VerdictKind.HANDLED: "Interests in {where} have drifted: the frozen arm has become worse, and the live arm "
    "recovers {recovered:.0%} of that loss.",
    VerdictKind.UNHANDLED: "Interests in {where} have drifted: the frozen arm has become worse, and the live arm does "
    "not yet recover enough of that loss.",
    VerdictKind.BROKEN_BY_US: "The live arm is worse than the frozen arm in {where}, and the frozen arm "
    "is as good as before: the kernel is broken.",
    VerdictKind.LABELS: "Labels in {where} are faulty: {how}.",
    VerdictKind.INPUTS: "Inputs in {where} are far from those that the model was trained on: {how}.",
    VerdictKind.TOO_LITTLE: "{where} has {examples:.0f} labelled examples, too few for a verdict.",
}
_ADVICE = {
    VerdictKind.STABLE: "Nothing needs to be done.",
    VerdictKind.HANDLED: "Nothing is urgent; pretrain the backbone again if it lasts.",
    VerdictKind.UNHANDLED: "Watch whether the live arm recovers within some thousand examples; if not, pretrain the "
    "backbone on recent data.",
    VerdictKind.BROKEN_BY_US: "Pin an earlier kernel or serve the frozen arm (`driftline kernel`), then look at "
    "what was published last.",
    VerdictKind.LABELS: "Check what sends feedback: what is learned meanwhile cannot be trusted.",
    VerdictKind.INPUTS: "Check what fills profiles and features, and which backbone is loaded.",
    VerdictKind.TOO_LITTLE: "Wait for more traffic, or judge it together with others.",
}
HOW = {
    "flipped": "clicks and non-clicks are swapped",
    "lost": "clicks are missing, and the remaining ones are in the expected order",
    "fake": "there are clicks on items that nobody is expected to click",
    "aside": "the gate sets them aside",
    "late": "most feedback comes too late",
    "paused": "ingest has not reported how far it has read the feedback",
}


def words(kind: VerdictKind, where: str, evidence: Mapping[str, float | str], *, shared: str = "") -> str:
    """The sentence of a verdict; `shared` names the stratum whose verdict it shares."""
    name = "the group" if where == "group" else where
    figures = {"recovered": 0.0, "examples": 0.0, "how": "", **evidence, "where": name}
    if kind is VerdictKind.TOO_LITTLE and not figures["examples"]:
        text = f"{name} has no labelled example yet: nothing is known."
    else:
        text = _WORDS[kind].format(**figures)
    text = text[0].upper() + text[1:] if name == "the group" else text
    return f"{text[:-1]}, as in the whole group." if shared else text


def advice(kind: VerdictKind) -> str:
    """What to do."""
    return _ADVICE[kind]
