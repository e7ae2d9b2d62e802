"""The fields of every node that ``/query/`` takes, as PostHog's query models have them.

A declaration is a line of ``name:type`` words; a star behind the name marks a field that must be there. A type is
``text``, ``bool``, ``int``, ``number``, ``dict``, ``any``, ``null``, a quoted constant, the name of an enumeration
or model of this module, ``[T]`` (a list), ``{T}`` (an object of any keys), ``T|U`` (either) or ``T?`` (also null).
`posthog_driver.local.model` compiles and applies them.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["ALIASES", "ELSEWHERE", "ENUMS", "MODELS", "REQUESTS"]

_NODE = "modifiers:HogQLQueryModifiers tags:QueryLogTags version:number?"
_FILTER = "key*:text label:text? operator*:PropertyOperator value:PropertyValue"
_OPERATED = (
    "PersonPropertyFilter=person SessionPropertyFilter=session EventMetadataPropertyFilter=event_metadata "
    "LogEntryPropertyFilter=log_entry FeaturePropertyFilter=feature DataWarehousePropertyFilter=data_warehouse "
    "DataWarehousePersonPropertyFilter=data_warehouse_person_property ErrorTrackingIssueFilter=error_tracking_issue "
    "RevenueAnalyticsPropertyFilter=revenue_analytics WorkflowVariablePropertyFilter=workflow_variable"
)
_ANY_FILTER = (
    "EventPropertyFilter|PersonPropertyFilter|ElementPropertyFilter|EventMetadataPropertyFilter|"
    "SessionPropertyFilter|CohortPropertyFilter|RecordingPropertyFilter|LogEntryPropertyFilter|GroupPropertyFilter|"
    "FeaturePropertyFilter|FlagPropertyFilter|HogQLPropertyFilter|EmptyPropertyFilter|DataWarehousePropertyFilter|"
    "DataWarehousePersonPropertyFilter|ErrorTrackingIssueFilter|LogPropertyFilter|SpanPropertyFilter|"
    "RevenueAnalyticsPropertyFilter|WorkflowVariablePropertyFilter"
)
_PEOPLE_FILTER = "PersonPropertyFilter|CohortPropertyFilter|HogQLPropertyFilter|EmptyPropertyFilter"
_SERIES = (
    f"custom_name:text? fixedProperties:[{_ANY_FILTER}]? math:Math? math_group_type_index:MathGroupTypeIndex "
    "math_hogql:text? math_multiplier:number? math_property:text? "
    "math_property_revenue_currency:RevenueCurrencyPropertyConfig math_property_type:text? name:text? "
    f"optionalInFunnel:bool? properties:[{_ANY_FILTER}]? version:number?"
)
_EVENTS = f"kind*:'EventsNode' event:text? limit:int? orderBy:[text]? {_SERIES}"
_ACTIONS = f"kind*:'ActionsNode' id*:int {_SERIES}"
_EXCLUSION = "funnelFromStep*:int funnelToStep*:int"
_INSIGHT = (
    f"{_NODE} aggregation_group_type_index:int? dataColorTheme:number? dateRange:DateRange filterTestAccounts:bool? "
    f"properties:[{_ANY_FILTER}]|PropertyGroupFilter|null samplingFactor:number?"
)
_WEB = (
    f"{_NODE} aggregation_group_type_index:int? compareFilter:CompareFilter conversionGoal:ConversionGoal? "
    "dataColorTheme:number? dateRange:DateRange doPathCleaning:bool? filterTestAccounts:bool? includeRevenue:bool? "
    "interval:IntervalType orderBy:[WebOrder]? properties*:[EventPropertyFilter|PersonPropertyFilter|"
    "SessionPropertyFilter|CohortPropertyFilter] sampling:WebAnalyticsSampling samplingFactor:number? "
    "useSessionsTable:bool?"
)
_ACTORS = f"{_NODE} includeRecordings:bool?"
_SHOWN = (
    "allowSorting embedded expandable full propertiesViaUrl showActions showColumnConfigurator showCount "
    "showDateRange showElapsedTime showEventFilter showEventsFilter showExport showHogQLEditor showOpenEditorButton "
    "showPersistentColumnConfigurator showRecordingColumn showReload showResultsTable showSavedFilters "
    "showSavedQueries showSearch showSourceQueryOptions showTableViews showTestAccountFilters showTimings"
)
_VIZ = (
    "embedded full hidePersonsModal hideTooltipOnScroll showCorrelationTable showFilters showHeader "
    "showLastComputation showLastComputationRefresh showResults showTable suppressSessionAnalysisWarning"
)
_INSIGHTS = "TrendsQuery|FunnelsQuery|RetentionQuery|PathsQuery|StickinessQuery|LifecycleQuery"


def _flags(names: str) -> str:
    return " ".join(f"{name}:bool?" for name in names.split())


ENUMS: Mapping[str, str] = {
    "RefreshType": "async async_except_on_cache_miss blocking force_async force_blocking force_cache lazy_async",
    "LimitContext": "posthog_ai",
    "HogLanguage": "hog hogJson hogQL hogQLExpr hogTemplate liquid",
    "PropertyOperator": "exact is_not icontains not_icontains regex not_regex gt gte lt lte is_set is_not_set "
    "is_date_exact is_date_before is_date_after between not_between min max in not_in is_cleaned_path_exact "
    "flag_evaluates_to semver_eq semver_neq semver_gt semver_gte semver_lt semver_lte semver_tilde semver_caret "
    "semver_wildcard icontains_multi not_icontains_multi",
    "FilterLogicalOperator": "AND OR",
    "ElementKey": "tag_name text href selector",
    "LogPropertyFilterType": "log log_attribute log_resource_attribute",
    "SpanPropertyFilterType": "span span_attribute span_resource_attribute",
    "Matching": "contains exact regex",
    "IntervalType": "second minute hour day week month",
    "Math": "total dau weekly_active monthly_active unique_session first_time_for_user "
    "first_matching_event_for_user first_time_for_user_with_filters avg sum min max median p75 p90 p95 p99 "
    "avg_count_per_actor min_count_per_actor max_count_per_actor median_count_per_actor p75_count_per_actor "
    "p90_count_per_actor p95_count_per_actor p99_count_per_actor unique_group hogql",
    "MathGroupTypeIndex": "0 1 2 3 4",
    "CurrencyCode": "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTC BTN BWP "
    "BYN BZD CAD CDF CHF CLP CNY COP CRC CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD GBP GEL GHS GIP GMD GNF GTQ GYD "
    "HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KRW KWD KYD KZT LAK LBP LKR LRD LTL LVL "
    "LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MTL MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP "
    "PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SRD SSP STN SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS "
    "UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW",
    "ChartDisplayType": "Auto ActionsLineGraph ActionsBar ActionsUnstackedBar ActionsStackedBar ActionsAreaGraph "
    "ActionsLineGraphCumulative BoldNumber ActionsPie ActionsBarValue ActionsTable WorldMap CalendarHeatmap "
    "TwoDimensionalHeatmap BoxPlot",
    "AggregationAxisFormat": "numeric duration duration_ms percentage percentage_scaled currency short",
    "DetailedResultsAggregationType": "total average median",
    "YAxisScaleType": "log10 linear",
    "ResultCustomizationBy": "value position",
    "Position": "start end",
    "BreakdownType": "cohort person event event_metadata group session hogql data_warehouse "
    "data_warehouse_person_property revenue_analytics",
    "BreakdownAttributionType": "first_touch last_touch all_events step",
    "StepOrderValue": "strict unordered ordered",
    "FunnelStepReference": "total previous",
    "FunnelVizType": "steps time_to_convert trends flow",
    "FunnelLayout": "horizontal vertical",
    "FunnelPathType": "funnel_path_before_step funnel_path_between_steps funnel_path_after_step",
    "RetentionPeriod": "Hour Day Week Month",
    "RetentionType": "retention_recurring retention_first_time retention_first_ever_occurrence",
    "RetentionDashboardDisplayType": "table_only graph_only all",
    "RetentionEntityKind": "ActionsNode EventsNode",
    "EntityType": "actions events data_warehouse new_entity groups",
    "MeanRetentionCalculation": "simple weighted none",
    "TimeWindowMode": "strict_calendar_dates 24_hour_windows",
    "AggregationType": "count sum avg",
    "PropertyType": "event person",
    "PathType": "$pageview $screen custom_event hogql",
    "StickinessOperator": "gte lte exact",
    "StickinessComputationMode": "non_cumulative cumulative",
    "LifecycleToggle": "new resurrecting returning dormant",
    "Compare": "current previous",
    "WebOrder": "Visitors Views AvgTimeOnPage Clicks BounceRate AverageScrollPercentage ScrollGt80Percentage "
    "TotalConversions UniqueConversions ConversionRate ConvertingUsers RageClicks DeadClicks Errors ASC DESC",
    "WebStatsBreakdown": "Page InitialPage ExitPage ExitClick PreviousPage ScreenName InitialChannelType "
    "InitialReferringDomain InitialReferringURL InitialUTMSource InitialUTMCampaign InitialUTMMedium InitialUTMTerm "
    "InitialUTMContent InitialUTMSourceMediumCampaign Browser OS Viewport DeviceType Country Region City Timezone "
    "Language FrustrationMetrics",
    "BounceRatePageViewMode": "count_pageviews uniq_urls uniq_page_screen_autocaptures",
    "InCohortVia": "auto leftjoin subquery leftjoin_conjoined",
    "InlineCohortCalculation": "off auto always",
    "MaterializationMode": "auto legacy_null_as_string legacy_null_as_null disabled",
    "MaterializedColumnsOptimizationMode": "disabled optimized",
    "PersonsArgMaxVersion": "auto v1 v2",
    "PersonsJoinMode": "inner left",
    "PersonsOnEventsMode": "disabled person_id_no_override_properties_on_events "
    "person_id_override_properties_on_events person_id_override_properties_joined",
    "PropertyGroupsMode": "enabled disabled optimized",
    "SessionTableVersion": "auto v1 v2 v3",
    "SessionsV2JoinMode": "string uuid",
    "CustomChannelField": "utm_source utm_medium utm_campaign referring_domain url pathname hostname",
    "CustomChannelOperator": "exact is_not is_set is_not_set icontains not_icontains regex not_regex",
    "ColorMode": "light dark",
    "Style": "none number short percent",
    "DisplayType": "auto line bar area",
    "YAxisPosition": "left right",
    "Scale": "linear logarithmic",
    "SortOrder": "asc desc",
    "GradientScaleMode": "absolute relative",
    "ColumnsContext": "event_definition team_columns",
    "TaxonomicFilterGroupType": "metadata actions cohorts cohorts_with_all data_warehouse data_warehouse_properties "
    "data_warehouse_person_properties elements events internal_events internal_event_properties event_properties "
    "event_feature_flags event_metadata numerical_event_properties person_properties pageview_urls pageview_events "
    "screens screen_events email_addresses autocapture_events custom_events wildcard groups persons feature_flags "
    "insights experiments plugins dashboards name_groups session_properties hogql_expression notebooks log_entries "
    "error_tracking_issues logs log_attributes log_resource_attributes spans span_attributes "
    "span_resource_attributes replay replay_saved_filters revenue_analytics_properties resources "
    "error_tracking_properties activity_log_properties max_ai_context workflow_variables suggested_filters "
    "recent_filters pinned_filters empty",
}
"""The values of each enumeration."""

_PARTS: Mapping[str, str] = {
    "QueryLogTags": "name:text? productKey:text? scene:text?",
    "HogQLQueryModifiers": "bounceRateDurationSeconds:number? bounceRatePageViewMode:BounceRatePageViewMode "
    "convertToProjectTimezone:bool? customChannelTypeRules:[CustomChannelRule]? "
    "dataWarehouseEventsModifiers:[DataWarehouseEventsModifier]? debug:bool? "
    "forceClickhouseDataSkippingIndexes:[text]? formatCsvAllowDoubleQuotes:bool? inCohortVia:InCohortVia "
    "inlineCohortCalculation:InlineCohortCalculation materializationMode:MaterializationMode "
    "materializedColumnsOptimizationMode:MaterializedColumnsOptimizationMode optimizeJoinedFilters:bool? "
    "optimizeProjections:bool? personsArgMaxVersion:PersonsArgMaxVersion personsJoinMode:PersonsJoinMode "
    "personsOnEventsMode:PersonsOnEventsMode propertyGroupsMode:PropertyGroupsMode s3TableUseInvalidColumns:bool? "
    "sessionIdPushdown:bool? sessionTableVersion:SessionTableVersion sessionsV2JoinMode:SessionsV2JoinMode "
    "timings:bool? useMaterializedViews:bool? usePreaggregatedIntermediateResults:bool? "
    "usePreaggregatedTableTransforms:bool? useWebAnalyticsPreAggregatedTables:bool?",
    "CustomChannelRule": "channel_type*:text combiner*:FilterLogicalOperator id*:text items*:[CustomChannelCondition]",
    "CustomChannelCondition": "id*:text key*:CustomChannelField op*:CustomChannelOperator value:text|[text]|null",
    "DataWarehouseEventsModifier": "distinct_id_field*:text id_field*:text table_name*:text timestamp_field*:text",
    "DateRange": "date_from:text? date_to:text? explicitDate:bool?",
    "HogQLFilters": f"dateRange:DateRange filterTestAccounts:bool? properties:[{_ANY_FILTER}]?",
    "HogQLVariable": "variableId*:text code_name*:text value:any isNull:bool?",
    "DashboardFilter": f"date_from:text? date_to:text? explicitDate:bool? properties:[{_ANY_FILTER}]? "
    "breakdown_filter:BreakdownFilter",
    "CompareFilter": "compare:bool? compare_to:text?",
    "GoalLine": "borderColor:text? displayIfCrossed:bool? displayLabel:bool? label*:text position:Position "
    "value*:number",
    "BreakdownFilter": "breakdown:text|[text|int]|int|null breakdown_group_type_index:int? "
    "breakdown_hide_other_aggregation:bool? breakdown_histogram_bin_count:int? breakdown_limit:int? "
    "breakdown_normalize_url:bool? breakdown_path_cleaning:bool? breakdown_type:BreakdownType "
    "breakdowns:[Breakdown]?",
    "Breakdown": "group_type_index:int? histogram_bin_count:int? normalize_url:bool? property*:text|int "
    "type:BreakdownType",
    "RevenueCurrencyPropertyConfig": "property:text? static:CurrencyCode",
    "ActionConversionGoal": "actionId*:int",
    "CustomEventConversionGoal": "customEventName*:text",
    "WebAnalyticsSampling": "enabled:bool? forceSamplingRate:SamplingRate",
    "SamplingRate": "denominator:number? numerator*:number",
    "TrendsFilter": "aggregationAxisFormat:AggregationAxisFormat aggregationAxisPostfix:text? "
    "aggregationAxisPrefix:text? breakdown_histogram_bin_count:int? confidenceLevel:number? decimalPlaces:number? "
    "detailedResultsAggregationType:DetailedResultsAggregationType display:ChartDisplayType "
    "excludeBoxPlotOutliers:bool? formula:text? formulaNodes:[TrendsFormulaNode]? formulas:[text]? "
    "goalLines:[GoalLine]? hiddenLegendIndexes:[int]? hideWeekends:bool? minDecimalPlaces:number? "
    "movingAverageIntervals:number? resultCustomizationBy:ResultCustomizationBy resultCustomizations:dict? "
    "showAlertThresholdLines:bool? showConfidenceIntervals:bool? showLabelsOnSeries:bool? showLegend:bool? "
    "showMovingAverage:bool? showMultipleYAxes:bool? showPercentStackView:bool? showTrendLines:bool? "
    "showValuesOnSeries:bool? smoothingIntervals:int? yAxisScaleType:YAxisScaleType",
    "TrendsFormulaNode": "custom_name:text? formula*:text",
    "FunnelsFilter": "binCount:int? breakdownAttributionType:BreakdownAttributionType breakdownAttributionValue:int? "
    "breakdownSorting:text? customAggregationTarget:bool? "
    "exclusions:[FunnelExclusionEventsNode|FunnelExclusionActionsNode]? funnelAggregateByHogQL:text? "
    "funnelFromStep:int? funnelOrderType:StepOrderValue funnelStepReference:FunnelStepReference funnelToStep:int? "
    "funnelVizType:FunnelVizType funnelWindowInterval:int? funnelWindowIntervalUnit:IntervalType "
    "goalLines:[GoalLine]? hiddenLegendBreakdowns:[text]? layout:FunnelLayout resultCustomizations:dict? "
    "showTrendLines:bool? showValuesOnSeries:bool? useUdf:bool?",
    "FunnelPathsFilter": "funnelPathType:FunnelPathType funnelSource*:FunnelsQuery funnelStep:int?",
    "RetentionFilter": "aggregationProperty:text? aggregationPropertyType:PropertyType "
    "aggregationType:AggregationType cumulative:bool? customAggregationTarget:bool? "
    "dashboardDisplay:RetentionDashboardDisplayType display:ChartDisplayType goalLines:[GoalLine]? "
    "meanRetentionCalculation:MeanRetentionCalculation minimumOccurrences:int? period:RetentionPeriod "
    "retentionCustomBrackets:[number]? retentionReference:FunnelStepReference retentionType:RetentionType "
    "returningEntity:RetentionEntity selectedInterval:int? showTrendLines:bool? targetEntity:RetentionEntity "
    "timeWindowMode:TimeWindowMode totalIntervals:int?",
    "RetentionEntity": "aggregation_target_field:text? custom_name:text? id:text|int|null kind:RetentionEntityKind "
    f"name:text? order:int? properties:[{_ANY_FILTER}]? table_name:text? timestamp_field:text? type:EntityType "
    "uuid:text?",
    "PathsFilter": "edgeLimit:int? endPoint:text? excludeEvents:[text]? includeEventTypes:[PathType]? "
    "localPathCleaningFilters:[PathCleaningFilter]? maxEdgeWeight:int? minEdgeWeight:int? pathDropoffKey:text? "
    "pathEndKey:text? pathGroupings:[text]? pathReplacements:bool? pathStartKey:text? pathsHogQLExpression:text? "
    "showFullUrls:bool? startPoint:text? stepLimit:int?",
    "PathCleaningFilter": "alias:text? order:number? regex:text?",
    "StickinessFilter": "computedAs:StickinessComputationMode display:ChartDisplayType hiddenLegendIndexes:[int]? "
    "resultCustomizationBy:ResultCustomizationBy resultCustomizations:dict? showLegend:bool? "
    "showMultipleYAxes:bool? showValuesOnSeries:bool? stickinessCriteria:StickinessCriteria",
    "StickinessCriteria": "operator*:StickinessOperator value*:int",
    "LifecycleFilter": "showLegend:bool? showValuesOnSeries:bool? stacked:bool? toggledLifecycles:[LifecycleToggle]?",
    "EventsQueryActionStep": f"event:text? href:text? href_matching:Matching? properties:[{_ANY_FILTER}]? "
    "selector:text? tag_name:text? text:text? text_matching:Matching? url:text? url_matching:Matching?",
    "VizSpecificOptions": "ActionsPie:ActionsPie RETENTION:RETENTION",
    "ActionsPie": "disableHoverOffset:bool? hideAggregation:bool?",
    "RETENTION": "hideLineGraph:bool? hideSizeColumn:bool? useSmallLayout:bool?",
    "DataTableNodeViewPropsContext": "eventDefinitionId:text? type*:ColumnsContext",
    "TableSettings": "columns:[ChartAxis]? conditionalFormatting:[ConditionalFormattingRule]? pinnedColumns:[text]? "
    "transpose:bool?",
    "ConditionalFormattingRule": "bytecode*:[any] color*:text colorMode:ColorMode columnName*:text id*:text "
    "input*:text templateId*:text",
    "ChartAxis": "column*:text settings:ChartAxisSettings",
    "ChartAxisSettings": "display:ChartSettingsDisplay formatting:ChartSettingsFormatting",
    "ChartSettingsFormatting": "decimalPlaces:number? prefix:text? style:Style suffix:text?",
    "ChartSettingsDisplay": "color:text? displayType:DisplayType label:text? trendLine:bool? "
    "yAxisPosition:YAxisPosition",
    "ChartSettings": "goalLines:[GoalLine]? heatmap:HeatmapSettings leftYAxisSettings:YAxisSettings "
    "rightYAxisSettings:YAxisSettings seriesBreakdownColumn:text? showLegend:bool? showNullsAsZero:bool? "
    "showPieTotal:bool? showTotalRow:bool? showValuesOnSeries:bool? showXAxisBorder:bool? showXAxisTicks:bool? "
    "showYAxisBorder:bool? stackBars100:bool? xAxis:ChartAxis yAxis:[ChartAxis]? yAxisAtZero:bool?",
    "YAxisSettings": "scale:Scale showGridLines:bool? showTicks:bool? startAtZero:bool?",
    "HeatmapSettings": "gradient:[HeatmapGradientStop]? gradientPreset:text? gradientScaleMode:GradientScaleMode "
    "nullLabel:text? nullValue:text? sortColumn:text? sortOrder:SortOrder valueColumn:text? xAxisColumn:text? "
    "xAxisLabel:text? yAxisColumn:text? yAxisLabel:text?",
    "HeatmapGradientStop": "color*:text value*:number",
}

_FILTERS: Mapping[str, str] = {
    "EventPropertyFilter": "key*:text label:text? operator:PropertyOperator type:'event' value:PropertyValue",
    "ElementPropertyFilter": "key*:ElementKey label:text? operator*:PropertyOperator type*:'element' "
    "value:PropertyValue",
    "CohortPropertyFilter": "cohort_name:text? key:'id' label:text? operator:PropertyOperator type*:'cohort' "
    "value*:int",
    "RecordingPropertyFilter": f"{_FILTER} type*:'recording'",
    "GroupPropertyFilter": f"{_FILTER} type*:'group' group_key_names:{{text}}? group_type_index:int?",
    "FlagPropertyFilter": "key*:text label:text? operator:'flag_evaluates_to' type*:'flag' value*:bool|text",
    "HogQLPropertyFilter": "key*:text label:text? type*:'hogql' value:PropertyValue",
    "EmptyPropertyFilter": "type:'empty'",
    "LogPropertyFilter": f"{_FILTER} type*:LogPropertyFilterType",
    "SpanPropertyFilter": f"{_FILTER} type*:SpanPropertyFilterType",
    **{name: f"{_FILTER} type*:'{type_}'" for name, _, type_ in (entry.partition("=") for entry in _OPERATED.split())},
    "PropertyGroupFilter": "type*:FilterLogicalOperator values*:[PropertyGroupFilterValue]",
    "PropertyGroupFilterValue": f"type*:FilterLogicalOperator values*:[PropertyGroupFilterValue|{_ANY_FILTER}]",
}

_NODES: Mapping[str, str] = {
    "EventsNode": _EVENTS,
    "ActionsNode": _ACTIONS,
    "GroupNode": "kind*:'GroupNode' limit:int? orderBy:[text]? operator*:FilterLogicalOperator "
    f"nodes*:[EventsNode|ActionsNode|DataWarehouseNode] {_SERIES}",
    "FunnelExclusionEventsNode": f"{_EVENTS} {_EXCLUSION}",
    "FunnelExclusionActionsNode": f"{_ACTIONS} {_EXCLUSION}",
    "InsightActorsQuery": f"kind*:'InsightActorsQuery' {_ACTORS} breakdown:text|[text]|int|null compare:Compare "
    f"day:text|int|null interval:int? series:int? source*:{_INSIGHTS}|WebStatsTableQuery|WebOverviewQuery status:text?",
    "FunnelsActorsQuery": f"kind*:'FunnelsActorsQuery' {_ACTORS} funnelStep:int? "
    "funnelStepBreakdown:number|text|[number|text]|null funnelTrendsDropOff:bool? "
    "funnelTrendsEntrancePeriodStart:text? source*:FunnelsQuery",
    "StickinessActorsQuery": f"kind*:'StickinessActorsQuery' {_ACTORS} compare:Compare day:text|int|null "
    "operator:StickinessOperator series:int? source*:StickinessQuery",
}

_ASKED_OF = (
    "EventsNode|ActionsNode|PersonsNode|EventsQuery|SessionsQuery|ActorsQuery|GroupsQuery|InsightActorsQuery|"
    "InsightActorsQueryOptions|SessionsTimelineQuery|HogQuery|HogQLQuery|HogQLMetadata|HogQLAutocomplete|"
    "WebOverviewQuery|WebStatsTableQuery|WebGoalsQuery|null"
)
_QUERIES: Mapping[str, str] = {
    "HogQLQuery": f"{_NODE} connectionId:text? explain:bool? filters:HogQLFilters name:text? query*:text "
    "sendRawQuery:bool? values:dict? variables:{HogQLVariable}?",
    "HogQLMetadata": f"{_NODE} connectionId:text? debug:bool? filters:HogQLFilters globals:dict? "
    f"language*:HogLanguage query*:text sourceQuery:{_ASKED_OF} variables:{{HogQLVariable}}?",
    "HogQLAutocomplete": f"{_NODE} connectionId:text? endPosition*:int filters:HogQLFilters globals:dict? "
    f"language*:HogLanguage query*:text sourceQuery:{_ASKED_OF} startPosition*:int",
    "DatabaseSchemaQuery": f"{_NODE} connectionId:text?",
    "TrendsQuery": f"{_INSIGHT} breakdownFilter:BreakdownFilter compareFilter:CompareFilter "
    "conversionGoal:ConversionGoal? interval:IntervalType series*:[GroupNode|EventsNode|ActionsNode|"
    "DataWarehouseNode] trendsFilter:TrendsFilter",
    "FunnelsQuery": f"{_INSIGHT} breakdownFilter:BreakdownFilter funnelsFilter:FunnelsFilter interval:IntervalType "
    "series*:[GroupNode|EventsNode|ActionsNode|FunnelsDataWarehouseNode]",
    "RetentionQuery": f"{_INSIGHT} breakdownFilter:BreakdownFilter retentionFilter*:RetentionFilter",
    "PathsQuery": f"{_INSIGHT} funnelPathsFilter:FunnelPathsFilter pathsFilter*:PathsFilter",
    "LifecycleQuery": f"{_INSIGHT} customAggregationTarget:bool? interval:IntervalType "
    "lifecycleFilter:LifecycleFilter series*:[EventsNode|ActionsNode|LifecycleDataWarehouseNode]",
    "StickinessQuery": f"{_NODE} compareFilter:CompareFilter dataColorTheme:number? dateRange:DateRange "
    f"filterTestAccounts:bool? interval:IntervalType intervalCount:int? properties:[{_ANY_FILTER}]|"
    "PropertyGroupFilter|null samplingFactor:number? series*:[EventsNode|ActionsNode|DataWarehouseNode] "
    "stickinessFilter:StickinessFilter",
    "ActorsQuery": f"{_NODE} fixedProperties:[{_PEOPLE_FILTER}]? limit:int? offset:int? orderBy:[text]? "
    f"properties:[{_PEOPLE_FILTER}]|PropertyGroupFilterValue|null search:text? select:[text]? "
    "source:InsightActorsQuery|FunnelsActorsQuery|FunnelCorrelationActorsQuery|ExperimentActorsQuery|"
    "StickinessActorsQuery|HogQLQuery|null",
    "EventsQuery": f"{_NODE} actionId:int? actionSteps:[EventsQueryActionStep]? after:text? before:text? event:text? "
    "events:[text]? filterTestAccounts:bool? "
    f"fixedProperties:[PropertyGroupFilterValue|{_ANY_FILTER}]? limit:int? offset:int? orderBy:[text]? "
    f"personId:text? properties:[{_ANY_FILTER}]? select*:[text] source:InsightActorsQuery where:[text]?",
    "WebOverviewQuery": _WEB,
    "WebStatsTableQuery": f"{_WEB} breakdownBy*:WebStatsBreakdown includeAvgTimeOnPage:bool? "
    "includeBounceRate:bool? includeHost:bool? includeScrollDepth:bool? limit:int? offset:int?",
    "WebGoalsQuery": f"{_WEB} limit:int?",
    "TeamTaxonomyQuery": f"{_NODE} limit:int? offset:int?",
    "EventTaxonomyQuery": f"{_NODE} actionId:int? event:text? limit:int? maxPropertyValues:int? offset:int? "
    "properties:[text]?",
    "ActorsPropertyTaxonomyQuery": f"{_NODE} groupTypeIndex:int? maxPropertyValues:int? properties*:[text]",
    "PropertyValuesQuery": f"{_NODE} event_names:[text]? is_column:bool? property_key*:text "
    "property_type*:PropertyType search_value:text?",
    "InsightVizNode": f"{_flags(_VIZ)} source*:{_INSIGHTS}|WebStatsTableQuery|WebOverviewQuery version:number? "
    "vizSpecificOptions:VizSpecificOptions",
    "DataTableNode": f"tags:QueryLogTags version:number? {_flags(_SHOWN)} columns:[text]? "
    "context:DataTableNodeViewPropsContext "
    "contextKey:text? defaultColumns:[text]? hiddenColumns:[text]? pinnedColumns:[text]? "
    "showPropertyFilter:bool|[TaxonomicFilterGroupType]|null source*:EventsNode|PersonsNode|GroupsQuery|"
    "SessionsQuery|EventsQuery|ActorsQuery|HogQLQuery|WebOverviewQuery|WebStatsTableQuery|WebGoalsQuery",
    "DataVisualizationNode": "chartSettings:ChartSettings display:ChartDisplayType source*:HogQLQuery "
    "tableSettings:TableSettings version:number?",
}

REQUESTS = tuple(sorted(_QUERIES))
"""The kinds that a request can have here."""

MODELS: Mapping[str, str] = {
    **_PARTS,
    **_FILTERS,
    **_NODES,
    **{name: f"kind*:'{name}' {fields}" for name, fields in _QUERIES.items()},
}
"""The fields of each model."""

ALIASES: Mapping[str, str] = {
    "PropertyValue": "[text|number|bool]|text|number|bool|null",
    "ConversionGoal": "ActionConversionGoal|CustomEventConversionGoal",
}
"""Names for types that several fields have."""

_ELSEWHERE = (
    "CalendarHeatmapQuery DataWarehouseNode DocumentSimilarityQuery EndpointsUsageOverviewQuery "
    "EndpointsUsageTableQuery EndpointsUsageTrendsQuery ErrorTrackingBreakdownsQuery "
    "ErrorTrackingIssueCorrelationQuery ErrorTrackingQuery ErrorTrackingSimilarIssuesQuery ExperimentActorsQuery "
    "ExperimentExposureQuery ExperimentFunnelsQuery ExperimentQuery ExperimentTrendsQuery "
    "FunnelCorrelationActorsQuery FunnelCorrelationQuery FunnelsDataWarehouseNode GroupsQuery HogQuery "
    "InsightActorsQueryOptions LifecycleDataWarehouseNode LogAttributesQuery LogValuesQuery LogsQuery "
    "MarketingAnalyticsAggregatedQuery MarketingAnalyticsTableQuery NonIntegratedConversionsTableQuery "
    "PersonsNode RecordingsQuery RevenueAnalyticsGrossRevenueQuery RevenueAnalyticsMRRQuery "
    "RevenueAnalyticsMetricsQuery RevenueAnalyticsOverviewQuery RevenueAnalyticsTopCustomersQuery "
    "RevenueExampleDataWarehouseTablesQuery RevenueExampleEventsQuery SavedInsightNode "
    "SessionAttributionExplorerQuery SessionsQuery SessionsTimelineQuery SuggestedQuestionsQuery "
    "TraceNeighborsQuery TraceQuery TraceSpansQuery TracesQuery UsageMetricsQuery VectorSearchQuery "
    "WebAnalyticsExternalSummaryQuery WebExternalClicksTableQuery WebNotableChangesQuery WebPageURLSearchQuery "
    "WebTrendsQuery WebVitalsPathBreakdownQuery WebVitalsQuery"
)
ELSEWHERE = frozenset(_ELSEWHERE.split())
"""Kinds of PostHog that the embedded server does not have."""
