"""The functions of HogQL as data: names, renames, arities, types.

The tables are text, one word for each function::

    [~]name[=engine name]/arity[:type][(parameters)]

``~`` marks the few names that PostHog takes in any case. The arity is ``2``, ``1-3`` or ``2+``. The type is the coarse
type of the result, ``same`` for that of the first argument; it may end in ``!`` (never NULL) or ``?`` (perhaps NULL
whatever the arguments); otherwise a typed result is NULL only if an argument is. Without a type nothing is known, and
the result counts as perhaps NULL. Templates are written with ``{0}``, ``{1}``, ... for the arguments, one to a line.

Names, arities and renames are those of PostHog's HogQL (``posthog/hogql/functions`` of September 2026).
"""

from __future__ import annotations

SCALARS = """
plus/2 minus/2 multiply/2 divide/2:float intDiv/2:integer intDivOrZero/2:integer modulo/2 moduloOrZero/2
positiveModulo/2 negate/1:same ~abs/1:same gcd/2:integer lcm/2:integer ~max2/2:float ~min2/2:float multiplyDecimal/2-3
divideDecimal/2-3

empty/1:boolean notEmpty/1:boolean isEmpty=empty/1:boolean isNotEmpty=notEmpty/1:boolean ~length/1:integer ~reverse/1
array/0+:array! range/1-3:array arrayConcat/2+:array arrayElement/2 has/2:boolean hasAll/2:boolean hasAny/2:boolean
hasSubstr/2:boolean indexOf/2:integer arrayCount/1+:integer countEqual/2:integer arrayEnumerate/1:array
arrayEnumerateUniq/2+:array arrayPopBack/1:array arrayPopFront/1:array arrayPushBack/2:array arrayPushFront/2:array
arrayResize/2-3:array arraySlice/2-3:array arraySort/1+:array arrayReverseSort=arraySort/1+:array
arrayUniq/1+:integer arrayJoin/1
arrayDifference/1:array arrayDistinct/1:array arrayEnumerateDense/1:array arrayIntersect/1+:array arrayReduce/2+
arrayReverse/1:array arrayFilter/2+:array arrayFlatten/1:array arrayCompact/1:array arrayZip/2+:array arrayAUC/2
arrayMap/2+:array arrayFill/2+:array arrayFold/3+ arrayWithConstant/2:array arraySplit/2+:array
arrayReverseFill/2+:array arrayReverseSplit/2+:array arrayRotateLeft/2:array arrayRotateRight/2:array
arrayExists/1+:boolean arrayAll/1+:boolean arrayFirst/2+ arrayLast/2+ arrayFirstIndex/2+:integer
arrayLastIndex/2+:integer arrayMin/1-2 arrayMax/1-2 arraySum/1-2 arrayAvg/1-2 arrayCumSum/1+:array
arrayCumSumNonNegative/1+:array arrayProduct/1 arrayStringConcat/1-2:string

xor/2+:boolean ~if/3 multiIf/3+ map/0+ mapFromArrays/2 mapAdd/2+ mapSubtract/2+ mapPopulateSeries/1-3
mapContains/2:boolean mapKeys/1:array mapValues/1:array mapContainsKeyLike/2 mapExtractKeyLike/2 mapApply/2 mapFilter/2
mapUpdate/2 bitAnd/2 bitOr/2 bitXor/2 bitNot/1 bitShiftLeft/2 bitShiftRight/2 bitRotateLeft/2 bitRotateRight/2
bitSlice/3 bitTest/2 bitTestAll/3+ bitTestAny/3+ bitCount/1 bitHammingDistance/2 bitmapBuild/1 bitmapToArray/1
bitmapSubsetInRange/3 bitmapSubsetLimit/3 subBitmap/3 bitmapContains/2 bitmapHasAny/2 bitmapHasAll/2
bitmapCardinality/1:integer bitmapMin/1 bitmapMax/1 bitmapTransform/3 bitmapAnd/2 bitmapOr/2 bitmapXor/2 bitmapAndnot/2
bitmapAndCardinality/2 bitmapOrCardinality/2 bitmapXorCardinality/2 bitmapAndnotCardinality/2

protocol/1:string domain/1:string domainWithoutWWW/1:string topLevelDomain/1:string firstSignificantSubdomain/1:string
cutToFirstSignificantSubdomain/1:string cutToFirstSignificantSubdomainWithWWW/1:string port/1-2:integer path/1:string
pathFull/1:string queryString/1:string fragment/1:string queryStringAndFragment/1:string extractURLParameter/2:string
extractURLParameters/1:array extractURLParameterNames/1:array URLHierarchy/1:array URLPathHierarchy/1:array
encodeURLComponent/1:string decodeURLComponent/1:string encodeURLFormComponent/1:string decodeURLFormComponent/1:string
netloc/1:string cutWWW/1:string cutQueryString/1:string cutFragment/1:string cutQueryStringAndFragment/1:string
cutURLParameter/2:string

tuple/0+:tuple! tupleElement/2-3 untuple/1 tupleHammingDistance/2 tupleToNameValuePairs/1 tuplePlus/2 tupleMinus/2
tupleMultiply/2 tupleDivide/2 tupleNegate/1 tupleMultiplyByNumber/2 tupleDivideByNumber/2 dotProduct/2

isFinite/1:boolean isInfinite/1:boolean ifNotFinite/1 isNaN/1:boolean bar/4 transform/3-4
formatReadableDecimalSize/1:string formatReadableSize/1:string formatReadableQuantity/1:string
formatReadableTimeDelta/1-2:string ~least/2 ~greatest/2 indexHint/1 throwIf/1-2:integer L1Norm/1 L2Norm/1 LinfNorm/1
LpNorm/2 L1Distance/2 L2Distance/2 LinfDistance/2 LpDistance/3 L1Normalize/1 L2Normalize/1 LinfNormalize/1 LpNormalize/2
cosineDistance/2

hex/1:string unhex/1:string reinterpretAsUInt8/1 reinterpretAsUInt16/1 reinterpretAsUInt32/1 reinterpretAsUInt64/1
reinterpretAsUInt128/1 reinterpretAsUInt256/1 reinterpretAsInt8/1 reinterpretAsInt16/1 reinterpretAsInt32/1
reinterpretAsInt64/1 reinterpretAsInt128/1 reinterpretAsInt256/1 reinterpretAsFloat32/1 reinterpretAsFloat64/1
reinterpretAsUUID/1 toIntOrZero=toInt64OrZero/1:integer toFloatOrZero=toFloat64OrZero/1:float
toFloatOrDefault=toFloat64OrDefault/1-2:float _toInt8=toInt8/1:integer _toInt16=toInt16/1:integer
_toInt32=toInt32/1:integer _toInt64=toInt64/1:integer _toUInt64=toUInt64/1:integer _toUInt128=toUInt128/1:integer
_toDate=toDate/1:date toUUIDOrDefault/2:uuid toString/1-2:string toBool/1:boolean toJSONString/1:string
toTypeName/1:string! lookupDomainType/1:string? lookupPaidSourceType/1:string? lookupPaidMediumType/1:string?
lookupOrganicSourceType/1:string? lookupOrganicMediumType/1:string? cityHash64/1:integer isNotNull/1:boolean!
~isnull=isNull/1:boolean! ~coalesce/1+:same? ~ifnull=ifNull/2:same? ~nullif=nullIf/2:same? assumeNotNull/1:same!
toNullable/1:same?

timeZoneOf/1:string timeZoneOffset/1:integer toYear/1:integer toQuarter/1:integer toMonth/1:integer
toDayOfYear/1:integer toDayOfMonth/1:integer toDayOfWeek/1-3:integer toHour/1:integer toMinute/1:integer
toSecond/1:integer toUnixTimestamp/1-2:integer toUnixTimestamp64Milli/1:integer fromUnixTimestamp64Milli/1:datetime
toStartOfInterval/2-3:datetime toStartOfYear/1:date toStartOfISOYear/1:date toStartOfQuarter/1:date
toStartOfMonth/1:date toLastDayOfMonth/1:date toMonday/1:date toStartOfWeek/1-2:date toStartOfDay/1-2:datetime
toLastDayOfWeek/1-2:date toStartOfHour/1:datetime toStartOfMinute/1:datetime toStartOfSecond/1:datetime
toStartOfFiveMinutes/1:datetime toStartOfTenMinutes/1:datetime toStartOfFifteenMinutes/1:datetime toTime/1:datetime
toISOYear/1:integer toISOWeek/1:integer toWeek/1-3:integer toYearWeek/1-3:integer age/3:integer dateAdd/2-3:datetime
dateSub/2-3:datetime date_diff=dateDiff/3:integer dateDiff/3:integer timeStampAdd/2:datetime timeStampSub/2:datetime
timeSlot/1:datetime nowInBlock/1:datetime rowNumberInBlock/0:integer! rowNumberInAllBlocks/0:integer! tumble/2 hop/3
tumbleStart/1-3:datetime tumbleEnd/1-3:datetime hopStart/1-3:datetime hopEnd/1-3:datetime toYYYYMM/1:integer
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
~ascii/1:integer concatWithSeparator/2+:string ~position/2-3:integer positionCaseInsensitive/2-3:integer
positionUTF8/2-3:integer positionCaseInsensitiveUTF8/2-3:integer multiSearchAllPositions/2 multiSearchAllPositionsUTF8/2
multiSearchFirstPosition/2 multiSearchFirstIndex/2 multiSearchAny/2:boolean multiSearchAllPositionsCaseInsensitive/2
multiSearchAllPositionsCaseInsensitiveUTF8/2 multiSearchAnyUTF8/2:boolean multiSearchAnyCaseInsensitive/2:boolean
multiSearchAnyCaseInsensitiveUTF8/2:boolean multiSearchFirstIndexUTF8/2 multiSearchFirstIndexCaseInsensitive/2
multiSearchFirstIndexCaseInsensitiveUTF8/2 multiSearchFirstPositionUTF8/2 multiSearchFirstPositionCaseInsensitive/2
multiSearchFirstPositionCaseInsensitiveUTF8/2 match/2:boolean multiMatchAny/2:boolean multiMatchAnyIndex/2
multiMatchAllIndices/2 multiFuzzyMatchAny/3 multiFuzzyMatchAnyIndex/3 multiFuzzyMatchAllIndices/3 ~extract/2:string
extractAll/2:array extractAllGroupsHorizontal/2:array extractAllGroupsVertical/2:array extractGroups/2:array
locate/2-3:integer ngramDistance/2 ngramDistanceCaseInsensitive/2 ngramDistanceUTF8/2 ngramDistanceCaseInsensitiveUTF8/2
ngramSearch/2 ngramSearchCaseInsensitive/2 ngramSearchUTF8/2 ngramSearchCaseInsensitiveUTF8/2
countSubstrings/2-3:integer countSubstringsCaseInsensitive/2-3:integer countSubstringsCaseInsensitiveUTF8/2-3:integer
countMatches/2:integer countMatchesCaseInsensitive/2:integer hasSubsequence/2:boolean
hasSubsequenceCaseInsensitive/2:boolean hasSubsequenceUTF8/2:boolean hasSubsequenceCaseInsensitiveUTF8/2:boolean
hasToken/2:boolean hasTokenCaseInsensitive/2:boolean hasTokenOrNull/2:boolean? hasTokenCaseInsensitiveOrNull/2:boolean?
hasAllTokens/2:boolean hasAnyTokens/2:boolean regexpExtract/2-3:string ~replace/3:string replaceAll/3:string
replaceOne/3:string replaceRegexpAll/3:string replaceRegexpOne/3:string regexpQuoteMeta/1:string translate/3:string
translateUTF8/3:string splitByChar/2-3:array splitByString/2-3:array splitByRegexp/2-3:array splitByWhitespace/1-2:array
splitByNonAlpha/1-2:array alphaTokens/1-2:array extractAllGroups/2:array ngrams/2:array tokens/1:array
ltrim=trimLeft/1-2:string trimLeft/1-2:string rtrim=trimRight/1-2:string trimRight/1-2:string btrim=trim/1-2:string
~trim/1-2:string

e/0:float! pi/0:float! ~exp/1:float ~log/1:float ~ln/1:float exp2/1:float ~log2/1:float exp10/1:float ~log10/1:float
~sqrt/1:float cbrt/1:float erf/1:float erfc/1:float lgamma/1:float tgamma/1:float ~sin/1:float ~cos/1:float ~tan/1:float
~asin/1:float ~acos/1:float ~atan/1:float ~pow/2:float ~power/2:float intExp2/1 intExp10/1 cosh/1:float acosh/1:float
sinh/1:float asinh/1:float atanh/1:float atan2/2:float hypot/2:float log1p/1:float ~sign/1:integer ~degrees/1:float
~radians/1:float ~factorial/1:integer width_bucket/4:integer ~floor/1-2:same ~ceil/1-2:same ~trunc/1-2:same
~round/1-2:same roundBankers/1-2:same roundToExp2/1:same roundDuration/1 roundAge/1 roundDown/2 rand/0:integer!

isValidJSON/1:boolean JSONHas/1+:boolean JSONLength/1+:integer JSONArrayLength/1+:integer? JSONType/1+ JSONExtract/2+
JSONExtractUInt/1+:integer JSONExtractInt/1+:integer JSONExtractFloat/1+:float JSONExtractBool/1+:boolean
JSONExtractString/1+:string JSONExtractKeys/1+:array JSONExtractRaw/1+:string JSONExtractArrayRaw/1+:array
JSONExtractKeysAndValues/1-3:array JSONExtractKeysAndValuesRaw/1+:array JSON_VALUE/2+:string

h3IsValid/1:boolean h3GetResolution/1:integer h3GetBaseCell/1:integer h3EdgeAngle/1:float h3EdgeLengthM/1:float
h3EdgeLengthKm/1:float geoToH3/3:integer h3ToGeo/1 h3ToGeoBoundary/1 h3kRing/2:array h3HexAreaM2/1:float
h3HexAreaKm2/1:float h3IndexesAreNeighbors/2:boolean h3ToChildren/2:array h3ToParent/2:integer h3ToString/1:string
stringToH3/1:integer h3IsResClassIII/1:boolean h3IsPentagon/1:boolean h3GetFaces/1:array h3CellAreaM2/1:float
h3CellAreaRads2/1:float h3ToCenterChild/2:integer h3ExactEdgeLengthM/1:float h3ExactEdgeLengthKm/1:float
h3ExactEdgeLengthRads/1:float h3NumHexagons/1:integer h3PointDistM/4:float h3PointDistKm/4:float h3PointDistRads/4:float
h3GetRes0Indexes/0:array h3GetPentagonIndexes/1:array h3Line/2:array h3Distance/2:integer h3HexRing/2:array
h3GetUnidirectionalEdge/2:integer h3UnidirectionalEdgeIsValid/1:boolean h3GetOriginIndexFromUnidirectionalEdge/1:integer
h3GetDestinationIndexFromUnidirectionalEdge/1:integer h3GetIndexesFromUnidirectionalEdge/1
h3GetUnidirectionalEdgesFromHexagon/1:array h3GetUnidirectionalEdgeBoundary/1 greatCircleDistance/4:float
geoDistance/4:float greatCircleAngle/4:float pointInEllipses/6+ pointInPolygon/2+ geohashEncode/2-3:string
geohashDecode/1 geohashesInBox/5:array

rank/0:integer! dense_rank/0:integer! row_number/0:integer! first_value/1 last_value/1 nth_value/2 lagInFrame/1-3
leadInFrame/1-3 lag=lagInFrame/1-3 lead=leadInFrame/1-3
"""

TEMPLATES = """
toInt/1:integer?        accurateCastOrNull({0}, 'Int64')
toFloat/1:float?        accurateCastOrNull({0}, 'Float64')
toUUID/1:uuid?          accurateCastOrNull({0}, 'UUID')
_toNullableBool/1:boolean?  accurateCastOrNull({0}, 'Bool')
toNullableString/1:string?  accurateCastOrNull({0}, 'Nullable(String)')
date_part/2:integer     arrayElement(arrayMap((part, dt) -> multiIf(part = 'year', toYear(dt), part = 'month', \
toMonth(dt), part = 'day', toDayOfMonth(dt), part = 'hour', toHour(dt), part = 'minute', toMinute(dt), \
part = 'second', toSecond(dt), \
part = 'dow', toDayOfWeek(dt), part = 'doy', toDayOfYear(dt), part = 'quarter', toQuarter(dt), NULL), \
[{0}], [{1}]), 1)
split_part/3:string     arrayElement(arrayMap((parts, i) -> if(empty(parts) OR length(parts) < i, '', \
arrayElement(parts, i)), [splitByString({1}, {0})], [{2}]), 1)
timezone/2:datetime     toTimeZone({1}, {0})
date_bin/3:datetime     toStartOfInterval({1}, {0}, {2})
make_timestamptz/7:datetime  toTimeZone(makeDateTime({0}, {1}, {2}, {3}, {4}, {5}), {6})
date_add/2:datetime     plus({0}, {1})
date_subtract/2:datetime  minus({0}, {1})
make_interval/6:interval  toIntervalYear({0}) + toIntervalMonth({1}) + toIntervalDay({2}) + toIntervalHour({3}) + \
toIntervalMinute({4}) + toIntervalSecond({5})
md5/1:string            hex(MD5({0}))
~sortablesemver/1:array!  arrayMap(x -> toInt64OrNull(x), splitByChar('.', coalesce(nullIf(extract(assumeNotNull({0}), \
'^\\\\s*v?((0|[1-9]\\\\d*)\\\\.(0|[1-9]\\\\d*)\\\\.(0|[1-9]\\\\d*))(?:[-+][^\\\\s]*)?\\\\s*$'), ''), '_')))
"""

TIMEZONE_AWARE = """
~now=now64/0-1:datetime! current_timestamp=now64/0:datetime! toTimeZone/1-2:datetime
toDateTime=parseDateTime64BestEffortOrNull/1-2:datetime? toDateTime64/1-3:datetime
toDateTimeUS=parseDateTime64BestEffortUSOrNull/1-2:datetime? parseDateTime=parseDateTimeOrNull/2-3:datetime?
parseDateTimeBestEffort=parseDateTime64BestEffortOrNull/1-2:datetime? UUIDv7ToDateTime/1-2:datetime
to_timestamp=toDateTime/1-2:datetime to_char=formatDateTime/2-3:string make_timestamp=makeDateTime/6-7:datetime
"""
"""The project's time zone is their last argument unless the caller gives one."""

DATES = "toDate=toDateOrNull/1:date? to_date=toDateOrNull/1:date?"
DECIMAL = "toDecimal=accurateCastOrNull/2:float?"

COMBINED = "avg/1 sum/1 min/1 max/1 count/0-1 countDistinct=uniqExact/1 median/1"
"""Aggregations that take every combinator of `COMBINATORS`."""
COMBINATORS = {
    "If": "",
    "Array": "If OrDefault OrNull",
    "Map": "If OrDefault OrNull",
    "State": "If OrDefault OrNull",
    "Merge": "If OrDefault OrNull",
    "ForEach": "If OrDefault OrNull",
    "OrDefault": "If",
    "OrNull": "If",
    "ArgMin": "If OrDefault OrNull",
    "ArgMax": "If OrDefault OrNull",
}
"""Combinators, and those that may follow each: ``sumArrayOrNullIf``."""

WITH_IF = """
~count/0-1:integer! ~min/1:same ~max/1:same ~sum/1 ~avg/1:float any/1:same anyHeavy/1:same anyLast/1:same
argMin/2:same argMax/2:same median/1:float stddevPop/1:float stddevSamp/1:float varPop/1:float varSamp/1:float
covarPop/2:float covarSamp/2:float avgWeighted/2:float groupArray/1:array! groupUniqArray/1:array!
groupArrayInsertAt/2:array! groupArrayMovingAvg/1:array! groupArrayMovingSum/1:array! groupBitAnd/1 groupBitOr/1
groupBitXor/1 groupBitmap/1:integer! groupBitmapAnd/1 groupBitmapOr/1 groupBitmapXor/1 sumWithOverflow/1 deltaSum/1
deltaSumTimestamp/2 sumMap/1-2 minMap/1-2 maxMap/1-2 skewSamp/1:float skewPop/1:float kurtSamp/1:float kurtPop/1:float
uniq/1+:integer! uniqExact/1+:integer! uniqHLL12/1+:integer! medianExact/1 medianExactLow/1 medianExactHigh/1
medianExactWeighted/1 medianTiming/1 medianTimingWeighted/1 medianDeterministic/1 medianTDigest/1
medianTDigestWeighted/1 medianBFloat16/1 simpleLinearRegression/2 contingency/2:float cramersV/2:float
cramersVBiasCorrected/2:float theilsU/2:float maxIntersections/2 maxIntersectionsPosition/2
"""
"""Aggregations that also exist with ``If``, which adds a condition as the last argument."""

OTHER_AGGREGATIONS = """
countDistinct/1:integer! countDistinctIf=uniqExactIf/1-2:integer! corr/2:float array_agg=groupArray/1:array!
avgArray=avgArrayOrNull/1 medianArray=medianArrayOrNull/1
countState/0-1 countMerge/1 countStateIf/1-2 countMapIf/2-3 avgMapIf/2-3 avgMapState/2-3 avgMapMerge/1 avgMapMergeIf/2
argMinMerge/1 argMaxMerge/1 argMinState/2 argMaxState/2 sumForEachState/1 sumForEachMerge/1 sumMapMerge/1
sumMapMergeIf/2 uniqExactState/1+ uniqExactMerge/1+:integer! uniqMerge/1:integer! uniqMergeIf/2:integer! uniqMap/1
uniqMapMerge/1 uniqMapMergeIf/2 uniqState/1 uniqStateIf/2 uniqUpToMerge/1:integer!(1) groupBitmapState/1
groupBitmapAndState/1 groupBitmapOrState/1 groupUniqArrayArray/1:array!(0-1) groupUniqArrayArrayIf/2:array!(0-1)
topK/1:array!(1) quantile/1:float(1) quantileIf/2:float(1) quantiles/1+:array!(0+) quantilesIf/2:array!(1)
quantilesState/1(1+) quantilesStateIf/2(1+) quantilesMerge/1(1+) quantilesMergeIf/2(1+) quantileExact/1(1)
groupArraySample/1:array!(1-2) groupArraySampleIf/2:array!(1-2) windowFunnel/1-99:integer!(0+)
"""

AGGREGATE_TEMPLATES = """
json_agg/1:string!      toJSONString(groupArray({0}))
string_agg/2:string!    arrayStringConcat(groupArray({0}), {1})
every/1:boolean         toBool(min({0}))
"""

ARRAY_REDUCERS = """
count countMap countMapState sum sumMap sumMapState min minMap minMapState max maxMap maxMapState avg avgState avgMap
avgMapState median uniq uniqState uniqMap uniqMapState
"""

WINDOW_ONLY = "rank dense_rank row_number first_value last_value nth_value lagInFrame leadInFrame lag lead"

NOT_HERE = """
embedText convertCurrency getTrafficType getTrafficCategory isLikelyBot getBotType getBotName getBotOperator
__preview_getTrafficType __preview_getTrafficCategory __preview_isBot __preview_getBotType __preview_getBotName
__preview_getBotOperator _lookupGeoipCityName _lookupGeoipPostalCode _defaultChannelType _domainType generateSeries
uniqTheta uniqThetaIf extractIPv4Substrings JSONExtractKey aggregate_funnel aggregate_funnel_array
aggregate_funnel_cohort aggregate_funnel_trends aggregate_funnel_array_trends aggregate_funnel_cohort_trends
aggregate_funnel_json aggregate_funnel_array_json aggregate_funnel_cohort_json aggregate_funnel_trends_json
aggregate_funnel_array_trends_json aggregate_funnel_cohort_trends_json aggregate_funnel_test
aggregate_funnel_array_trends_test
"""
"""PostHog has these, the embedded one does not: they are refused by name.

They need an AI service, exchange rates, a list of bots, PostHog's own executables beside ClickHouse, or a function that
this build of the engine lacks (``uniqTheta``) or that no engine has (``JSONExtractKey``); or they are for PostHog's own
use (a name with an underscore in front).
"""
