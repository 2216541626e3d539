"""Which SQL may be said: the names of sqlglot's node classes that may stand in a query, dialect by dialect.

An allow-list, since a deny-list is never done: DuckDB alone has 800 scalar functions, and among them are
`write_log`, `current_setting`, and `repeat`, `range`, `lpad`, `format` and `regexp_replace`, which allocate
gigabytes past `memory_limit` and heed no interrupt.
"""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STRUCTURE = _words(
    """
    Select Union Except Intersect Subquery With CTE From Join Lateral Table TableAlias Values Tuple
    Where Group Having Qualify Order Ordered Limit Offset Distinct Cube Rollup GroupingSets Filter
    Window WindowSpec WithinGroup IgnoreNulls RespectNulls
    Star Column Identifier Alias Aliases Paren Literal Null Boolean Var DataType DataTypeParam Interval
    """
)

OPERATORS = _words(
    """
    Add Sub Mul Div IntDiv Mod Pow Neg DPipe
    EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is And Or Xor Not In Between Like ILike SimilarTo Exists
    All Any Escape BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitwiseLeftShift BitwiseRightShift
    Case If Cast TryCast Coalesce Nullif Greatest Least Bracket AtTimeZone
    JSONExtract JSONExtractScalar JSONPath JSONPathRoot JSONPathKey JSONPathSubscript
    """
)

AGGREGATES = _words(
    """
    Count CountIf Sum Avg Min Max Median Mode Stddev StddevPop StddevSamp Variance VariancePop
    Quantile PercentileCont PercentileDisc ApproxDistinct ApproxQuantile AnyValue First Last ArgMax ArgMin
    Corr CovarPop CovarSamp RegrSlope RegrIntercept RegrR2 Skewness Kurtosis LogicalAnd LogicalOr Grouping
    BitwiseAndAgg BitwiseOrAgg BitwiseXorAgg
    RowNumber Rank DenseRank PercentRank CumeDist Ntile Lag Lead FirstValue LastValue NthValue
    """
)

FUNCTIONS = _words(
    """
    Abs Ceil Floor Round Trunc Sign Sqrt Cbrt Exp Ln Log Pi Rand IsNan WidthBucket
    Sin Cos Tan Asin Acos Atan Atan2 Degrees Radians
    Lower Upper Length Trim Left Right Substring Concat ConcatWs Replace Reverse Initcap SplitPart
    StartsWith EndsWith Contains StrPosition RegexpLike RegexpExtract Ascii Chr MD5
    CurrentDate CurrentTimestamp Extract DateTrunc TimestampTrunc DateDiff DateAdd DateSub DateBin LastDay
    DateFromParts TimeToStr StrToTime StrToDate TimeToUnix UnixToTime TsOrDsToDate Date Timestamp
    Year Quarter Month Week WeekOfYear Day DayOfWeek DayOfYear DayOfMonth Dayname Monthname Hour Minute Second
    """
)

NODES = STRUCTURE | OPERATORS | AGGREGATES | FUNCTIONS

# Functions that sqlglot has no class for.
NAMES = _words("age date_part date_sub datesub epoch isfinite isinf now today")

# A cluster counts what arrays and texts take against the query's own memory, and stops it when it is told to;
# so there they may be built. UNNEST is the one thing of a FROM clause that is no table; it reads nothing.
CLUSTER_NODES = _words(
    """
    Unnest Array ArrayAgg ArraySize ArrayContains ArrayConcat ArrayToString Map
    RegexpReplace RegexpSplit Split Try GroupConcat JSONFormat ParseJSON
    TimestampAdd TimestampDiff StrToUnix Levenshtein SHA SHA2
    """
)
CLUSTER_NAMES = _words(
    """
    now cardinality element_at date_format date_parse format_datetime at_timezone from_iso8601_date
    from_iso8601_timestamp to_unixtime day_of_week day_of_year week_of_year approx_percentile
    array_distinct array_join array_max array_min array_sort map_keys map_values histogram
    url_extract_host url_extract_path url_extract_protocol url_extract_query url_extract_parameter
    is_finite is_infinite truncate codepoint geometric_mean checksum bool_and bool_or
    """
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What may stand in a query of one dialect."""

    nodes: frozenset[str]
    names: frozenset[str]
    texts_may_not_grow: bool
    """Whether a text that replace() makes may not be longer than what it was made of."""


_DUCKDB = Vocabulary(NODES, NAMES, texts_may_not_grow=True)
_CLUSTER = Vocabulary(NODES | CLUSTER_NODES, CLUSTER_NAMES, texts_may_not_grow=False)


def vocabulary(dialect: str) -> Vocabulary:
    """Return the words of a dialect."""
    return _DUCKDB if dialect == "duckdb" else _CLUSTER
