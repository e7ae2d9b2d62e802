"""The functions that HogQL may call: the allow-list, as data.

Whatever is not here does not exist; no name reaches the engine that was not written in this file. The tables are text,
one word for each function, read once at import::

    [~]name[=engine name]/arity[:type]

``~`` marks the few names that PostHog takes in any case. The arity is ``2``, ``1-3`` or ``2+``. The type is the coarse
type of the result, ``same`` for that of the first argument; it may end in ``!`` (never NULL) or ``?`` (perhaps NULL
whatever the arguments); otherwise a typed result is NULL only if an argument is. Without a type nothing is known, and
the result counts as perhaps NULL. Templates are written with ``{0}``, ``{1}``, ... for the arguments.

Names, arities and renames are those of PostHog's HogQL (August 2026), without the ones listed in `NOT_HERE`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """One callable function.

    Attributes:
        name: Its HogQL name.
        sql: The engine's name, or a template with ``{0}``.
        min_args: Least number of arguments.
        max_args: Greatest number, None for any.
        type: Coarse result type, ``same`` or ``unknown``.
        nullable: True or False when it does not depend on the arguments.
        aggregate: Whether it is an aggregation.
        params: Least and greatest number of parameters (``quantile(0.9)(x)``), (0, 0) without.
    """

    name: str
    sql: str
    min_args: int
    max_args: int | None
    type: str = "unknown"
    nullable: bool | None = True
    aggregate: bool = False
    params: tuple[int, int | None] = (0, 0)


_SCALARS = """
plus/2 minus/2 multiply/2 divide/2:float intDiv/2:integer intDivOrZero/2:integer modulo/2 moduloOrZero/2
positiveModulo/2 negate/1:same ~abs/1:same gcd/2:integer lcm/2:integer ~max2/2:float ~min2/2:float
multiplyDecimal/2-3 divideDecimal/2-3

empty/1:boolean notEmpty/1:boolean isEmpty=empty/1:boolean isNotEmpty=notEmpty/1:boolean ~length/1:integer ~reverse/1
array/0+:array! range/1-3:array arrayConcat/2+:array arrayElement/2 has/2:boolean hasAll/2:boolean hasAny/2:boolean
hasSubstr/2:boolean indexOf/2:integer arrayCount/1+:integer countEqual/2:integer arrayEnumerate/1:array
arrayEnumerateUniq/1+:array arrayPopBack/1:array arrayPopFront/1:array arrayPushBack/2:array arrayPushFront/2:array
arrayResize/2-3:array arraySlice/2-3:array arraySort/1+:array arrayReverseSort/1+:array arrayUniq/1+:integer
arrayJoin/1 arrayDifference/1:array arrayDistinct/1:array arrayEnumerateDense/1:array arrayIntersect/1+:array
arrayReduce/2+ arrayReverse/1:array arrayFilter/2+:array arrayFlatten/1:array arrayCompact/1:array arrayZip/2+:array
arrayAUC/2 arrayMap/2+:array arrayFill/2+:array arrayFold/3+ arrayWithConstant/2:array arraySplit/2+:array
arrayReverseFill/2+:array arrayReverseSplit/2+:array arrayRotateLeft/2:array arrayRotateRight/2:array
arrayExists/1+:boolean arrayAll/1+:boolean arrayFirst/2+ arrayLast/2+ arrayFirstIndex/2+:integer
arrayLastIndex/2+:integer arrayMin/1-2 arrayMax/1-2 arraySum/1-2 arrayAvg/1-2 arrayCumSum/1+:array
arrayCumSumNonNegative/1+:array arrayProduct/1 arrayStringConcat/1-2:string

xor/2+:boolean ~if/3 multiIf/3+
map/0+ mapFromArrays/2 mapAdd/2+ mapSubtract/2+ mapPopulateSeries/1-3 mapContains/2:boolean mapKeys/1:array
mapValues/1:array mapContainsKeyLike/2 mapExtractKeyLike/2 mapApply/2 mapFilter/2 mapUpdate/2
bitAnd/2 bitOr/2 bitXor/2 bitNot/1 bitShiftLeft/2 bitShiftRight/2 bitRotateLeft/2 bitRotateRight/2 bitSlice/3
bitTest/2 bitTestAll/3+ bitTestAny/3+ bitCount/1 bitHammingDistance/2
bitmapBuild/1 bitmapToArray/1 bitmapSubsetInRange/3 bitmapSubsetLimit/3 subBitmap/3 bitmapContains/2 bitmapHasAny/2
bitmapHasAll/2 bitmapCardinality/1:integer bitmapMin/1 bitmapMax/1 bitmapTransform/3 bitmapAnd/2 bitmapOr/2
bitmapXor/2 bitmapAndnot/2 bitmapAndCardinality/2 bitmapOrCardinality/2 bitmapXorCardinality/2
bitmapAndnotCardinality/2

protocol/1:string domain/1:string domainWithoutWWW/1:string topLevelDomain/1:string
firstSignificantSubdomain/1:string cutToFirstSignificantSubdomain/1:string
cutToFirstSignificantSubdomainWithWWW/1:string port/1-2:integer path/1:string pathFull/1:string
queryString/1:string fragment/1:string queryStringAndFragment/1:string extractURLParameter/2:string
extractURLParameters/1:array extractURLParameterNames/1:array URLHierarchy/1:array URLPathHierarchy/1:array
encodeURLComponent/1:string decodeURLComponent/1:string encodeURLFormComponent/1:string
decodeURLFormComponent/1:string netloc/1:string cutWWW/1:string cutQueryString/1:string cutFragment/1:string
cutQueryStringAndFragment/1:string cutURLParameter/2:string

tuple/0+:tuple! tupleElement/2-3 untuple/1 tupleHammingDistance/2 tupleToNameValuePairs/1 tuplePlus/2 tupleMinus/2
tupleMultiply/2 tupleDivide/2 tupleNegate/1 tupleMultiplyByNumber/2 tupleDivideByNumber/2 dotProduct/2

isFinite/1:boolean isInfinite/1:boolean ifNotFinite/2 isNaN/1:boolean bar/4 transform/3-4
formatReadableDecimalSize/1:string formatReadableSize/1:string formatReadableQuantity/1:string
formatReadableTimeDelta/1-2:string ~least/2 ~greatest/2 indexHint/1
L1Norm/1 L2Norm/1 LinfNorm/1 LpNorm/2 L1Distance/2 L2Distance/2 LinfDistance/2 LpDistance/3 L1Normalize/1
L2Normalize/1 LinfNormalize/1 LpNormalize/2 cosineDistance/2

hex/1:string unhex/1:string reinterpretAsUInt8/1 reinterpretAsUInt16/1 reinterpretAsUInt32/1 reinterpretAsUInt64/1
reinterpretAsUInt128/1 reinterpretAsUInt256/1 reinterpretAsInt8/1 reinterpretAsInt16/1 reinterpretAsInt32/1
reinterpretAsInt64/1 reinterpretAsInt128/1 reinterpretAsInt256/1 reinterpretAsFloat32/1 reinterpretAsFloat64/1
reinterpretAsUUID/1
toIntOrZero=toInt64OrZero/1:integer toFloatOrZero=toFloat64OrZero/1:float toFloatOrDefault=toFloat64OrDefault/1-2:float
toUUIDOrDefault/2:uuid toString/1-2:string toBool/1:boolean toJSONString/1:string toTypeName/1:string!
cityHash64/1:integer
isNotNull/1:boolean! ~isnull=isNull/1:boolean! ~coalesce/1+:same? ~ifnull=ifNull/2:same? ~nullif=nullIf/2:same?
assumeNotNull/1:same! toNullable/1:same?

timeZoneOf/1:string timeZoneOffset/1:integer toYear/1:integer toQuarter/1:integer toMonth/1:integer
toDayOfYear/1:integer toDayOfMonth/1:integer toDayOfWeek/1-3:integer toHour/1:integer toMinute/1:integer
toSecond/1:integer toUnixTimestamp/1-2:integer toUnixTimestamp64Milli/1:integer
fromUnixTimestamp64Milli/1:datetime toStartOfInterval/2-3:datetime toStartOfYear/1:date toStartOfISOYear/1:date
toStartOfQuarter/1:date toStartOfMonth/1:date toLastDayOfMonth/1:date toMonday/1:date toStartOfWeek/1-2:date
toStartOfDay/1-2:datetime toLastDayOfWeek/1-2:date toStartOfHour/1:datetime toStartOfMinute/1:datetime
toStartOfSecond/1:datetime toStartOfFiveMinutes/1:datetime toStartOfTenMinutes/1:datetime
toStartOfFifteenMinutes/1:datetime toTime/1:datetime toISOYear/1:integer toISOWeek/1:integer toWeek/1-3:integer
toYearWeek/1-3:integer age/3:integer dateAdd/2-3:datetime dateSub/2-3:datetime date_diff=dateDiff/3:integer
dateDiff/3:integer timeStampAdd/2:datetime timeStampSub/2:datetime timeSlot/1:datetime toYYYYMM/1:integer
toYYYYMMDD/1:integer toYYYYMMDDhhmmss/1:integer addYears/2:same addMonths/2:same addWeeks/2:same addDays/2:same
addHours/2:datetime addMinutes/2:datetime addSeconds/2:datetime addQuarters/2:same subtractYears/2:same
subtractMonths/2:same subtractWeeks/2:same subtractDays/2:same subtractHours/2:datetime subtractMinutes/2:datetime
subtractSeconds/2:datetime subtractQuarters/2:same timeSlots/2-3:array formatDateTime/2-3:string dateName/2:string
monthName/1:string fromUnixTimestamp/1:datetime toModifiedJulianDay=toModifiedJulianDayOrNull/1:integer?
fromModifiedJulianDay=fromModifiedJulianDayOrNull/1:date? yesterday/0:date! today/0:date! current_date=today/0:date!
toIntervalSecond/1:interval toIntervalMinute/1:interval toIntervalHour/1:interval toIntervalDay/1:interval
toIntervalWeek/1:interval toIntervalMonth/1:interval toIntervalQuarter/1:interval toIntervalYear/1:interval
date_trunc=dateTrunc/2-3:datetime dateTrunc/2-3:datetime make_date=makeDate/3:date

left=leftUTF8/2:string right=rightUTF8/2:string lengthUTF8/1:integer leftPad/2-3:string rightPad/2-3:string
leftPadUTF8/2-3:string rightPadUTF8/2-3:string lpad/3:string rpad/3:string ~lower/1:string ~upper/1:string
lowerUTF8/1:string upperUTF8/1:string initcap/1:string isValidUTF8/1:boolean toValidUTF8/1:string repeat/2:string
format/2+:string reverseUTF8/1:string ~concat/2+:string! ~substring/3:string substringUTF8/3:string
appendTrailingCharIfAbsent/2:string convertCharset/3:string base58Encode/1:string base58Decode/1:string
tryBase58Decode/1:string base64Encode/1:string base64Decode/1:string tryBase64Decode/1:string endsWith/2:boolean
startsWith/2:boolean encodeXMLComponent/1:string decodeXMLComponent/1:string extractTextFromHTML/1:string
~ascii/1:integer concatWithSeparator/2+:string
~position/2-3:integer positionCaseInsensitive/2-3:integer positionUTF8/2-3:integer
positionCaseInsensitiveUTF8/2-3:integer multiSearchAllPositions/2 multiSearchAllPositionsUTF8/2
multiSearchFirstPosition/2 multiSearchFirstIndex/2 multiSearchAny/2:boolean
multiSearchAllPositionsCaseInsensitive/2 multiSearchAllPositionsCaseInsensitiveUTF8/2 multiSearchAnyUTF8/2:boolean
multiSearchAnyCaseInsensitive/2:boolean multiSearchAnyCaseInsensitiveUTF8/2:boolean multiSearchFirstIndexUTF8/2
multiSearchFirstIndexCaseInsensitive/2 multiSearchFirstIndexCaseInsensitiveUTF8/2 multiSearchFirstPositionUTF8/2
multiSearchFirstPositionCaseInsensitive/2 multiSearchFirstPositionCaseInsensitiveUTF8/2 match/2:boolean
multiMatchAny/2:boolean multiMatchAnyIndex/2 multiMatchAllIndices/2 multiFuzzyMatchAny/3 multiFuzzyMatchAnyIndex/3
multiFuzzyMatchAllIndices/3 ~extract/2:string extractAll/2:array extractAllGroupsHorizontal/2:array
extractAllGroupsVertical/2:array extractGroups/2:array locate/2-3:integer ngramDistance/2
ngramDistanceCaseInsensitive/2 ngramDistanceUTF8/2 ngramDistanceCaseInsensitiveUTF8/2 ngramSearch/2
ngramSearchCaseInsensitive/2 ngramSearchUTF8/2 ngramSearchCaseInsensitiveUTF8/2 countSubstrings/2-3:integer
countSubstringsCaseInsensitive/2-3:integer countSubstringsCaseInsensitiveUTF8/2-3:integer countMatches/2:integer
countMatchesCaseInsensitive/2:integer hasSubsequence/2:boolean hasSubsequenceCaseInsensitive/2:boolean
hasSubsequenceUTF8/2:boolean hasSubsequenceCaseInsensitiveUTF8/2:boolean hasToken/2:boolean
hasTokenCaseInsensitive/2:boolean hasTokenOrNull/2:boolean? hasTokenCaseInsensitiveOrNull/2:boolean?
regexpExtract/2-3:string ~replace/3:string replaceAll/3:string replaceOne/3:string replaceRegexpAll/3:string
replaceRegexpOne/3:string regexpQuoteMeta/1:string translate/3:string translateUTF8/3:string splitByChar/2-3:array
splitByString/2-3:array splitByRegexp/2-3:array splitByWhitespace/1-2:array splitByNonAlpha/1-2:array
alphaTokens/1-2:array extractAllGroups/2:array ngrams/2:array tokens/1:array
ltrim=trimLeft/1-2:string trimLeft/1-2:string rtrim=trimRight/1-2:string trimRight/1-2:string btrim=trim/1-2:string
~trim/1-2:string

e/0:float! pi/0:float! ~exp/1:float ~log/1:float ~ln/1:float exp2/1:float ~log2/1:float exp10/1:float ~log10/1:float
~sqrt/1:float cbrt/1:float erf/1:float erfc/1:float lgamma/1:float tgamma/1:float ~sin/1:float ~cos/1:float
~tan/1:float ~asin/1:float ~acos/1:float ~atan/1:float ~pow/2:float ~power/2:float intExp2/1 intExp10/1 cosh/1:float
acosh/1:float sinh/1:float asinh/1:float atanh/1:float atan2/2:float hypot/2:float log1p/1:float ~sign/1:integer
~degrees/1:float ~radians/1:float ~factorial/1:integer width_bucket/4:integer ~floor/1-2:same ~ceil/1-2:same
~trunc/1-2:same ~round/1-2:same roundBankers/1-2:same roundToExp2/1:same roundDuration/1 roundAge/1 roundDown/2
rand/0:integer!

isValidJSON/1:boolean JSONHas/1+:boolean JSONLength/1+:integer JSONArrayLength/1+:integer? JSONType/1+
JSONExtract/2+ JSONExtractUInt/1+:integer JSONExtractInt/1+:integer JSONExtractFloat/1+:float
JSONExtractBool/1+:boolean JSONExtractString/1+:string JSONExtractKeys/1+:array
JSONExtractRaw/1+:string JSONExtractArrayRaw/1+:array JSONExtractKeysAndValues/1-3:array
JSONExtractKeysAndValuesRaw/1+:array JSON_VALUE/2+:string

greatCircleDistance/4:float geoDistance/4:float greatCircleAngle/4:float pointInEllipses/6+ pointInPolygon/2+
geohashEncode/2-3:string geohashDecode/1 geohashesInBox/5:array

rank/0:integer! dense_rank/0:integer! row_number/0:integer! first_value/1 last_value/1 nth_value/2 lagInFrame/1-3
leadInFrame/1-3 lag=lagInFrame/1-3 lead=leadInFrame/1-3
"""

_TEMPLATES = """
toInt/1:integer?        accurateCastOrNull({0}, 'Int64')
toFloat/1:float?        accurateCastOrNull({0}, 'Float64')
toUUID/1:uuid?          accurateCastOrNull({0}, 'UUID')
toNullableString/1:string?  accurateCastOrNull({0}, 'Nullable(String)')
date_part/2:integer     arrayElement(arrayMap((part, dt) -> multiIf(part = 'year', toYear(dt), part = 'month', \
toMonth(dt), part = 'day', toDayOfMonth(dt), part = 'hour', toHour(dt), part = 'minute', toMinute(dt), \
part = 'second', toSecond(dt), \
part = 'dow', toDayOfWeek(dt), part = 'doy', toDayOfYear(dt), part = 'quarter', toQuarter(dt), NULL), \
[{0}], [{1}]), 1)
split_part/3:string     arrayElement(arrayMap((parts, i) -> if(empty(parts) OR length(parts) < i, '', \
arrayElement(parts, i)), [splitByString({1}, {0})], [{2}]), 1)
timezone/2:datetime     toTimeZone({1}, {0})
date_add/2:datetime     plus({0}, {1})
date_subtract/2:datetime  minus({0}, {1})
make_interval/6:interval  toIntervalYear({0}) + toIntervalMonth({1}) + toIntervalDay({2}) + toIntervalHour({3}) + \
toIntervalMinute({4}) + toIntervalSecond({5})
md5/1:string            hex(MD5({0}))
sparkline/1:tuple!      tuple('__hx_tag', 'Sparkline', 'data', {0})
recordingButton/1:tuple!  tuple('__hx_tag', 'RecordingButton', 'sessionId', {0})
~sortablesemver/1:array!  arrayMap(x -> toInt64OrNull(x), splitByChar('.', coalesce(nullIf(extract(assumeNotNull({0}), \
'^\\\\s*v?((0|[1-9]\\\\d*)\\\\.(0|[1-9]\\\\d*)\\\\.(0|[1-9]\\\\d*))(?:[-+][^\\\\s]*)?\\\\s*$'), ''), '_')))
"""

_TIMEZONE_AWARE = """
~now=now64/0-1:datetime! current_timestamp=now64/0:datetime! toTimeZone/1-2:datetime
toDateTime=parseDateTime64BestEffortOrNull/1-2:datetime? toDateTime64/1-3:datetime
toDateTimeUS=parseDateTime64BestEffortUSOrNull/1-2:datetime? parseDateTime=parseDateTimeOrNull/2-3:datetime?
parseDateTimeBestEffort=parseDateTime64BestEffortOrNull/1-2:datetime? UUIDv7ToDateTime/1-2:datetime
to_timestamp=toDateTime/1-2:datetime to_char=formatDateTime/2-3:string make_timestamp=makeDateTime/6-7:datetime
"""
"""The project's time zone is their last argument unless the caller gives one."""

_DATES = "toDate=toDateOrNull/1:date? to_date=toDateOrNull/1:date?"
_DECIMAL = "toDecimal=accurateCastOrNull/2:float?"

_AGGREGATIONS = """
~count/0-1:integer! countDistinct/1:integer! ~min/1:same ~max/1:same ~sum/1 ~avg/1:float median/1:float any/1:same
anyHeavy/1:same anyLast/1:same argMin/2:same argMax/2:same
stddevPop/1:float stddevSamp/1:float varPop/1:float varSamp/1:float covarPop/2:float covarSamp/2:float
avgWeighted/2:float groupUniqArray/1:array! groupArrayInsertAt/2:array! groupArrayMovingAvg/1:array!
groupArrayMovingSum/1:array! groupArray/1:array! groupBitAnd/1 groupBitOr/1 groupBitXor/1 groupBitmap/1:integer!
groupBitmapAnd/1 groupBitmapOr/1 groupBitmapXor/1 groupUniqArrayArray/1:array! sumWithOverflow/1 deltaSum/1
deltaSumTimestamp/2 sumMap/1-2 minMap/1-2 maxMap/1-2 skewSamp/1:float skewPop/1:float kurtSamp/1:float kurtPop/1:float
uniq/1+:integer! uniqExact/1+:integer! uniqHLL12/1+:integer! medianExact/1 medianExactLow/1 medianExactHigh/1
medianExactWeighted/2 medianTiming/1 medianTimingWeighted/2 medianDeterministic/2 medianTDigest/1
medianTDigestWeighted/2 medianBFloat16/1 simpleLinearRegression/2 contingency/2:float cramersV/2:float
cramersVBiasCorrected/2:float theilsU/2:float maxIntersections/2 maxIntersectionsPosition/2
"""
"""Aggregations that also exist with ``If``, which adds a condition as the last argument."""

_PLAIN_AGGREGATIONS = """
corr/2:float array_agg=groupArray/1:array! avgArray=avgArrayOrNull/1 medianArray=medianArrayOrNull/1 uniqUpToMerge/1
groupBitmapState/1 groupBitmapAndState/1 groupBitmapOrState/1
"""
_PARAMETRIC = """
topK/1:array!(1) quantile/1:float(1) quantileIf/2:float(1) quantiles/1:array!(1+) quantilesIf/2:array!(1+)
quantileExact/1(1) groupArraySample/1:array!(1-2) groupArraySampleIf/2:array!(1-2) windowFunnel/2+:integer!(1+)
quantilesState/1(1+) quantilesMerge/1(1+)
"""
_COMBINED = "avg sum min max count countDistinct median uniq uniqExact argMin argMax"
_COMBINATORS = "Array Map State Merge ForEach OrDefault OrNull ArgMin ArgMax"
_AGGREGATE_TEMPLATES = """
json_agg/1:string!      toJSONString(groupArray({0}))
string_agg/2:string!    arrayStringConcat(groupArray({0}), {1})
every/1:boolean         toBool(min({0}))
"""

_UNITS = "second minute hour day week month quarter year"
_REDUCERS = """
count countMap countMapState sum sumMap sumMapState min minMap minMapState max maxMap maxMapState avg avgState avgMap
avgMapState median uniq uniqState uniqMap uniqMapState
"""
PARAMETRIC_FIRST_ARGUMENT = frozenset(_REDUCERS.split())
"""What ``arrayReduce`` takes as its first argument."""

COMPARISONS = {
    "equals": "==",
    "notEquals": "!=",
    "less": "<",
    "greater": ">",
    "lessOrEquals": "<=",
    "greaterOrEquals": ">=",
    "like": "like",
    "ilike": "ilike",
    "notLike": "not like",
    "notILike": "not ilike",
    "in": "in",
    "notIn": "not in",
}
"""Functions that mean an operator, and so follow its rules for NULL."""

RAW_STRING_ARGUMENT = frozenset({"toFloatOrZero", "toIntOrZero", "toFloatOrDefault"})
"""Functions that parse text: a typed property reaches them as the text it is stored as."""

_WINDOW = "rank dense_rank row_number first_value last_value nth_value lagInFrame leadInFrame lag lead"
WINDOW_ONLY = frozenset(_WINDOW.split())
"""Functions that need ``OVER``."""

_MISSING = """
matchesAction explainCSPReport embedText lookupDomainType lookupPaidSourceType lookupPaidMediumType
lookupOrganicSourceType lookupOrganicMediumType convertCurrency getSurveyResponse uniqueSurveySubmissionsFilter
getTrafficType getTrafficCategory isLikelyBot getBotType getBotName getBotOperator languageCodeToName generateSeries
percentile_cont percentile_disc aggregate_funnel aggregate_funnel_array aggregate_funnel_cohort aggregate_funnel_trends
aggregate_funnel_array_trends aggregate_funnel_cohort_trends uniqTheta uniqThetaIf tumble hop tumbleStart tumbleEnd
hopStart hopEnd nowInBlock rowNumberInBlock rowNumberInAllBlocks make_timestamptz date_bin hasAllTokens hasAnyTokens
extractIPv4Substrings JSONExtractKey
"""
NOT_HERE = frozenset(_MISSING.split())
"""PostHog has these, the embedded one does not (yet): they are refused by name."""

_WORD = re.compile(
    r"(?P<any>~?)(?P<name>\w+)(?:=(?P<sql>\w+))?/(?P<min>\d+)(?P<max>\+|-\d+)?(?::(?P<type>[a-z]+)(?P<null>[!?]?))?"
    r"(?:\((?P<params>[\d+-]+)\))?"
)


def _bounds(low: str, high: str | None) -> tuple[int, int | None]:
    if high is None:
        return int(low), int(low)
    return int(low), None if high == "+" else int(high[1:])


def _read(word: str, template: str | None, aggregate: bool) -> tuple[Function, bool]:
    found = _WORD.fullmatch(word)
    assert found is not None, word
    low, high = _bounds(found["min"], found["max"])
    params: tuple[int, int | None] = (0, 0)
    if found["params"]:
        first = re.match(r"\d+", found["params"])
        assert first is not None
        params = _bounds(first[0], found["params"][first.end() :] or None)
    nullable = {"!": False, "?": True, "": None, None: True}[found["null"]]
    sql = template or found["sql"] or found["name"]
    function = Function(found["name"], sql, low, high, found["type"] or "unknown", nullable, aggregate, params)
    return function, bool(found["any"])


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    return ((word, None) for word in text.split())


def _lines(text: str) -> Iterator[tuple[str, str | None]]:
    for line in text.strip().splitlines():
        word, template = line.split(None, 1)
        yield word, template


def _combinations() -> Iterator[Function]:
    """``sumIf``, ``avgOrNull``, ``uniqStateIf``, ...: a combinator adds arguments and changes the name."""
    base = {function.name: function for function, _ in (_read(w, None, True) for w in _AGGREGATIONS.split())}
    for function in base.values():
        yield _with_suffix(function, "If", 1)
    for name in _COMBINED.split():
        for suffix in _COMBINATORS.split():
            combined = _with_suffix(base[name], suffix, int(suffix.startswith("Arg")))
            if suffix == "Merge":
                combined = Function(combined.name, combined.sql, 1, 1, aggregate=True)
            yield combined
            if name not in ("argMin", "argMax"):
                yield _with_suffix(combined, "If", 1)


def _with_suffix(function: Function, suffix: str, more: int) -> Function:
    known = suffix == "If"
    high = None if function.max_args is None else function.max_args + more
    # The engine knows no countDistinctIf.
    sql = (function.sql if function.sql != "countDistinct" else "uniqExact") + suffix
    return Function(
        function.name + suffix,
        sql,
        function.min_args + more,
        high,
        function.type if known else "unknown",
        function.nullable if known else True,
        aggregate=True,
    )


def _load() -> tuple[dict[str, Function], dict[str, Function]]:
    functions: dict[str, Function] = {}
    any_case: dict[str, Function] = {}
    for combined in _combinations():
        functions[combined.name] = combined
    tables = (
        (_words(_SCALARS + _TIMEZONE_AWARE + _DATES + " " + _DECIMAL), False),
        (_lines(_TEMPLATES), False),
        (_words(_AGGREGATIONS + _PLAIN_AGGREGATIONS + _PARAMETRIC), True),
        (_lines(_AGGREGATE_TEMPLATES), True),
    )
    for words, aggregate in tables:
        for word, template in words:
            function, insensitive = _read(word, template, aggregate)
            functions[function.name] = function
            if insensitive:
                any_case[function.name.lower()] = function
    return functions, any_case


FUNCTIONS, _ANY_CASE = _load()
TIMEZONE_AWARE = frozenset(_read(word, None, False)[0].name for word in _TIMEZONE_AWARE.split())
INTERVALS = {unit: f"toInterval{unit.capitalize()}" for unit in _UNITS.split()}
"""What makes an interval of a unit, for ``dateAdd('day', 1, x)``, which the engine itself takes without quotes only."""
_LOGICAL = ("and", "or", "not")


def find(name: str) -> Function | None:
    """The function that HogQL calls by this name; a few names may be written in any case."""
    return FUNCTIONS.get(name) or _ANY_CASE.get(name.lower())


def nearest(name: str) -> str | None:
    """The known name that looks most like this one."""
    matches = difflib.get_close_matches(name, [*FUNCTIONS, *COMPARISONS, *_LOGICAL], 1)
    return matches[0] if matches else None
