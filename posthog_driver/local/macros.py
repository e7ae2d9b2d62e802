"""PostHog's own functions that stand for an expression: what they become before they are printed.

Sources: ``posthog/hogql/functions/{sparkline,recording_button,explain_csp_report,survey,mapping}.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .parser import HogQLError, Node, parse_expression

_LANGUAGES = """
aa Afar; ab Abkhazian; ae Avestan; af Afrikaans; ak Akan; am Amharic; an Aragonese; ar Arabic; as Assamese; av Avaric;
ay Aymara; az Azerbaijani; ba Bashkir; be Belarusian; bg Bulgarian; bh Bihari languages; bi Bislama; bm Bambara;
bn Bengali; bo Tibetan; br Breton; bs Bosnian; ca Catalan; ce Chechen; ch Chamorro; co Corsican; cr Cree; cs Czech;
cu Church Slavic; cv Chuvash; cy Welsh; da Danish; de German; dv Divehi; dz Dzongkha; ee Ewe; el Greek; en English;
eo Esperanto; es Spanish; et Estonian; eu Basque; fa Persian; ff Fulah; fi Finnish; fj Fijian; fo Faroese; fr French;
fy Western Frisian; ga Irish; gd Scottish Gaelic; gl Galician; gn Guarani; gu Gujarati; gv Manx; ha Hausa; he Hebrew;
hi Hindi; ho Hiri Motu; hr Croatian; ht Haitian; hu Hungarian; hy Armenian; hz Herero; ia Interlingua; id Indonesian;
ie Interlingue; ig Igbo; ii Sichuan Yi; ik Inupiaq; io Ido; is Icelandic; it Italian; iu Inuktitut; ja Japanese;
jv Javanese; ka Georgian; kg Kongo; ki Kikuyu; kj Kuanyama; kk Kazakh; kl Kalaallisut; km Central Khmer; kn Kannada;
ko Korean; kr Kanuri; ks Kashmiri; ku Kurdish; kv Komi; kw Cornish; ky Kirghiz; la Latin; lb Luxembourgish; lg Ganda;
li Limburgan; ln Lingala; lo Lao; lt Lithuanian; lu Luba-Katanga; lv Latvian; mg Malagasy; mh Marshallese; mi Maori;
mk Macedonian; ml Malayalam; mn Mongolian; mr Marathi; ms Malay; mt Maltese; my Burmese; na Nauru;
nb Norwegian Bokmål; nd North Ndebele; ne Nepali; ng Ndonga; nl Dutch; nn Norwegian Nynorsk; no Norwegian;
nr South Ndebele; nv Navajo; ny Chichewa; oc Occitan; oj Ojibwa; om Oromo; or Oriya; os Ossetian; pa Panjabi; pi Pali;
pl Polish; ps Pashto; pt Portuguese; qu Quechua; rm Romansh; rn Rundi; ro Romanian; ru Russian; rw Kinyarwanda;
sa Sanskrit; sc Sardinian; sd Sindhi; se Northern Sami; sg Sango; si Sinhala; sk Slovak; sl Slovenian; sm Samoan;
sn Shona; so Somali; sq Albanian; sr Serbian; ss Swati; st Southern Sotho; su Sundanese; sv Swedish; sw Swahili;
ta Tamil; te Telugu; tg Tajik; th Thai; ti Tigrinya; tk Turkmen; tl Tagalog; tn Tswana; to Tonga; tr Turkish;
ts Tsonga; tt Tatar; tw Twi; ty Tahitian; ug Uighur; uk Ukrainian; ur Urdu; uz Uzbek; ve Venda; vi Vietnamese;
vo Volapük; wa Walloon; wo Wolof; xh Xhosa; yi Yiddish; yo Yoruba; za Zhuang; zh Chinese; zu Zulu
"""
LANGUAGES = dict(entry.split(None, 1) for entry in _LANGUAGES.replace("\n", " ").split("; "))
"""Languages by their ISO 639-1 codes."""


@dataclass(frozen=True)
class Macro:
    """A function that stands for an expression.

    Attributes:
        min_args: Least number of arguments.
        max_args: Greatest number.
        expand: Makes the expression of the arguments.
    """

    min_args: int
    max_args: int
    expand: Callable[[list[Node]], Node]


def expression(text: str, nodes: Mapping[str, Node]) -> Node:
    """The tree of a HogQL text in which ``{name}`` stands for other nodes; it has no positions of its own."""
    filled: Node = _filled(parse_expression(text), nodes)
    return filled


def _filled(item: Any, nodes: Mapping[str, Node]) -> Any:
    if isinstance(item, list):
        return [_filled(part, nodes) for part in item]
    if not isinstance(item, dict):
        return item
    if item.get("node") == "Placeholder":
        return nodes[item["expr"]["chain"][0]]
    return {key: _filled(part, nodes) for key, part in item.items() if key not in ("start", "end")}


def constant(value: Any) -> Node:
    """A constant without a position; lists become arrays."""
    if isinstance(value, list):
        return {"node": "Array", "exprs": [constant(item) for item in value]}
    return {"node": "Constant", "value": value}


def _call(name: str, *arguments: Node) -> Node:
    return {"node": "Call", "name": name, "args": list(arguments)}


def _tag(kind: str, **attributes: Node) -> Node:
    """A tuple that PostHog's page shows as something else than text."""
    parts = [constant("__hx_tag"), constant(kind)]
    for name, value in attributes.items():
        parts.extend((constant(name), value))
    return {"node": "Tuple", "exprs": parts}


def _recording_button(arguments: list[Node]) -> Node:
    status = {"node": "Field", "chain": ["properties", "$recording_status"]}
    return _tag("RecordingButton", sessionId=arguments[0], recordingStatus=[*arguments, status][1])


def _language(arguments: list[Node]) -> Node:
    codes, names = constant(list(LANGUAGES)), constant(list(LANGUAGES.values()))
    return _call("transform", arguments[0], codes, names, constant("Unknown"))


def _survey_response(arguments: list[Node]) -> Node:
    """The answer to a question of a survey: by the id of the question, else by its place."""
    index, question, is_multiple = (_value(arguments, i) for i in range(3))
    if arguments[0]["node"] != "Constant":
        raise HogQLError("getSurveyResponse first argument must be a constant")
    if type(index) not in (int, str) or not str(index).lstrip("-").isdigit():
        raise HogQLError("getSurveyResponse first argument must be a valid integer")
    number = int(index)
    nodes = {
        "old": constant("$survey_response" if number == 0 else f"$survey_response_{number}"),
        "number": constant(number + 1),
        "new": constant(f"$survey_response_{question}"),
    }
    if not question:
        found = "JSONExtractString(JSONExtractArrayRaw(properties, '$survey_questions')[{number}], 'id')"
        nodes["new"] = expression(f"concat('$survey_response_', {found})", nodes)
    if is_multiple:
        many, one = "JSONExtractArrayRaw(properties, {new})", "JSONExtractArrayRaw(properties, {old})"
        return expression(f"if(JSONHas(properties, {{new}}) and length({many}) > 0, {many}, {one})", nodes)
    parts = (f"nullif(JSONExtractString(properties, {{{key}}}), '')" for key in ("new", "old"))
    return expression(f"coalesce({', '.join(parts)})", nodes)


def _survey_submissions(arguments: list[Node]) -> Node:
    """Whether an event is the last one of its submission of a survey."""
    for node, word in zip(arguments, ("first", "second", "third"), strict=False):
        if node["node"] != "Constant":
            raise HogQLError(f"uniqueSurveySubmissionsFilter {word} argument must be a constant")
    nodes = dict(zip(("survey", "start", "stop"), arguments, strict=False))
    bounds = {
        "survey": "properties.$survey_id = {survey}",
        "start": "timestamp >= {start}",
        "stop": "timestamp <= {stop}",
    }
    where = " and ".join(["event = 'survey sent'", *(bounds[name] for name in nodes)])
    submission = "properties.$survey_submission_id"
    return expression(
        f"uuid in (select argMax(uuid, timestamp) from events where {where} "
        f"group by if(coalesce({submission}, '') = '', toString(uuid), {submission}))",
        nodes,
    )


def _value(arguments: list[Node], index: int) -> Any:
    return arguments[index].get("value") if index < len(arguments) else None


MACROS: Mapping[str, Macro] = {
    "sparkline": Macro(1, 1, lambda arguments: _tag("Sparkline", data=arguments[0])),
    "recordingButton": Macro(1, 2, _recording_button),
    "explainCSPReport": Macro(1, 1, lambda arguments: _tag("ExplainCSPReport", properties=arguments[0])),
    "languageCodeToName": Macro(1, 1, _language),
    "getSurveyResponse": Macro(1, 3, _survey_response),
    "uniqueSurveySubmissionsFilter": Macro(1, 3, _survey_submissions),
}
"""The functions by name."""
