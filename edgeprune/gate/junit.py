"""Judgements as JUnit XML, which continuous integration servers read."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from edgeprune.gate.judging import Judgement
from edgeprune.measurement import Measurement


def junit(measurement: Measurement, judgements: Sequence[Judgement], unfair: str = "") -> bytes:
    """JUnit XML: a test case a budget, in one suite named after the measurement. What failed is a failure; what was
    inconclusive or measured under unfair conditions is an error, so that no reader takes it for passed.

    Format: https://github.com/testmoapp/junitxml.
    """
    cases = [(judgement.budget.name, judgement.status, judgement.why) for judgement in judgements]
    if unfair:
        cases = [(name, "unfair", unfair) for name, _, _ in cases]
    failures = sum(status == "fail" for _, status, _ in cases)
    errors = sum(status in ("inconclusive", "unfair") for _, status, _ in cases)
    counts = {"tests": str(len(cases)), "failures": str(failures), "errors": str(errors)}
    top = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(top, "testsuite", {"name": measurement.path.stem, **counts})
    for name, status, why in cases:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "edgeprune.gate", "name": name})
        if status != "pass":
            kind = "failure" if status == "fail" else "error"
            ElementTree.SubElement(case, kind, {"type": status, "message": why}).text = why
        else:
            ElementTree.SubElement(case, "system-out").text = why
    ElementTree.indent(top)
    return bytes(ElementTree.tostring(top, encoding="utf-8", xml_declaration=True))
