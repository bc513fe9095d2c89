"""One column of a foreign file becomes one typed column: text, times, amounts, numbers, verdicts.

Pure and vectorised. A value that cannot be read becomes null and never stops the file; which rule
names the row then is `mapping`.
"""

import polars as pl

from fraud_platform.errors import MappingError
from fraud_platform.schemas import UTC_MICROSECONDS

_EXPONENTS = {
    **dict.fromkeys(
        ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND"],
        0,
    ),
    **dict.fromkeys(["VUV", "XAF", "XOF", "XPF"], 0),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
    **dict.fromkeys(["CLF", "UYW"], 4),
}
"""Digits after the decimal point where they are not two; ISO 4217, list one."""

EPOCH_UNITS = {"epoch_seconds": 1e6, "epoch_milliseconds": 1e3, "epoch_microseconds": 1.0}
"""Time formats that count from 1970-01-01 UTC -> microseconds per unit."""

_EXACT = 2.0**53
_FLOAT_NOISE = 1e-6
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
"""Begin of these years, seconds since 1970 UTC."""
_ISO_8601 = (
    r"^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2})(:\d{2})?(?:[.,](\d{1,9}))?"
    r"\s?(Z|z|UTC|[+-](?:0\d|1[0-8])(?::?[0-5]\d)?)?$"
)
_TRUE, _FALSE = ("true", "t", "yes", "y", "on"), ("false", "f", "no", "n", "off")


def read_text(column: pl.Series) -> pl.Series:
    """Text without outer blanks; empty text is null, whole floats lose their `.0`.

    Raises:
        MappingError: the column holds lists, structs or other things that are no single value.

    Examples:
        >>> read_text(pl.Series([17.0, None])).to_list()
        ['17', None]
        >>> read_text(pl.Series([" a ", ""])).to_list()
        ['a', None]
    """
    if column.dtype.is_nested() or column.dtype in (pl.Object, pl.Duration):
        raise MappingError(
            f"found {column.dtype} in column {column.name!r}, expected one value per row",
            hint="flatten the column before ingesting the file",
        )
    if column.dtype.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < _EXACT)
        as_whole = column.set((~whole).fill_null(value=True), None).cast(pl.Int64)
        texts = as_whole.cast(pl.String).zip_with(
            whole.fill_null(value=False), column.cast(pl.String)
        )
    else:
        texts = column.cast(pl.String)
    stripped = texts.str.strip_chars()
    return stripped.set(stripped == "", None)


def sanitized(source: pl.DataFrame) -> pl.DataFrame:
    """The same rows without what cannot even be shown.

    Byte columns become text (bytes that are no UTF-8 become U+FFFD), and native times outside the
    years 1 to 9999 become null: Polars panics when it converts them.
    """
    return source.with_columns(
        _decoded(column) if column.dtype == pl.Binary else _within_the_calendar(column)
        for column in source.iter_columns()
        if column.dtype == pl.Binary or isinstance(column.dtype, pl.Datetime | pl.Date)
    )


def read_number(column: pl.Series, decimal_mark: str = ".") -> pl.Series:
    """Float64; text that is no number is null.

    Examples:
        >>> read_number(pl.Series(["1,5", "x"]), decimal_mark=",").to_list()
        [1.5, None]
    """
    if column.dtype.is_numeric():
        return column.cast(pl.Float64)
    texts = read_text(column)
    if decimal_mark != ".":
        dotted = texts.str.contains(".", literal=True)
        texts = texts.set(dotted, None).str.replace(decimal_mark, ".", literal=True)
    return texts.cast(pl.Float64, strict=False)


def read_times(
    column: pl.Series, *, zone: str | None, time_format: str | None
) -> tuple[pl.Series, pl.Series]:
    """UTC moments, and which rows have a readable time that names no zone.

    Times that name their zone keep it; `zone` is for those that do not. A local time that occurs
    twice when clocks go back is the earlier one, a time that clocks skip is unreadable.

    Args:
        column: text, a date-time type, or numbers with an epoch format.
        zone: IANA name of the zone of naive times; None: they are null and flagged.
        time_format: strptime pattern or a key of `EPOCH_UNITS`; None reads ISO 8601.

    Returns:
        Two columns of the input's length: Datetime UTC microseconds (null where unreadable) and
        Boolean.

    Raises:
        MappingError: the column's type needs a format, or has no time of day.

    Examples:
        >>> texts = pl.Series(["2024-01-01T12:00:00+01:00", "2024-01-01 12:00"])
        >>> moments, naive = read_times(texts, zone=None, time_format=None)
        >>> str(moments[0]), naive.to_list()
        ('2024-01-01 11:00:00+00:00', [False, True])
    """
    aware, naive = _parsed(column, time_format)
    lacks_zone = naive.is_not_null() & aware.is_null()
    if zone is None:
        return aware, lacks_zone
    local = naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    moments = aware.zip_with(aware.is_not_null(), local.dt.convert_time_zone("UTC"))
    return moments, pl.Series([False]).new_from_index(0, len(column))


def read_minor_units(
    numbers: pl.Series, currencies: pl.Series, *, unit: str
) -> tuple[pl.Series, pl.Series]:
    """Whole minor units, and which amounts have more decimals than their currency.

    Float noise is forgiven (12.340000000000001 is 12.34), a real third decimal is not, so nothing
    is ever rounded away.

    Args:
        numbers: Float64, finite or null.
        currencies: ISO 4217 codes; unknown codes count as two decimals.
        unit: "major" (euros) or "minor" (cents).

    Returns:
        Int64 (null where unreadable, or too large to be exact) and Boolean.

    Examples:
        >>> amounts, currencies = pl.Series([12.34, 12.34, 0.125]), pl.Series(["EUR", "JPY", "KWD"])
        >>> [column.to_list() for column in read_minor_units(amounts, currencies, unit="major")]
        [[1234, None, 125], [False, True, False]]
    """
    scaled = numbers
    if unit == "major":
        digits = currencies.replace_strict(_EXPONENTS, default=2, return_dtype=pl.Int64)
        scaled = numbers * digits.replace_strict(
            {0: 1.0, 2: 100.0, 3: 1000.0, 4: 10000.0}, return_dtype=pl.Float64
        )
    rounded = scaled.round()
    noise = (scaled.abs() * 2.0**-50).clip(lower_bound=_FLOAT_NOISE)
    too_fine = ((scaled - rounded).abs() > noise) & (scaled.abs() < _EXACT)
    usable = (scaled.abs() < _EXACT) & ~too_fine
    whole = rounded.set(~usable.fill_null(value=False), None).cast(pl.Int64)
    return whole, too_fine.fill_null(value=False)


def plain_value(value: object) -> set[str]:
    """The spellings that stand for one value of a mapping file, in the form of `comparable`.

    YAML turns an unquoted yes into true, so a truth value stands for all its usual spellings.

    Examples:
        >>> plain_value(1), sorted(plain_value(value=True))
        ({'1'}, ['on', 't', 'true', 'y', 'yes'])
    """
    if isinstance(value, bool):
        return set(_TRUE if value else _FALSE)
    if isinstance(value, float) and value.is_integer():
        return {str(int(value))}
    return {str(value).strip().lower()}


def comparable(column: pl.Series) -> pl.Series:
    """Values in the spelling in which label values are compared: lower case, no trailing `.0`."""
    return read_text(column).str.to_lowercase().str.replace(r"^(-?\d+)\.0+$", "${1}")


def _decoded(column: pl.Series) -> pl.Series:
    texts = [None if raw is None else raw.decode(errors="replace") for raw in column]
    return pl.Series(column.name, texts, dtype=pl.String)


def _within_the_calendar(column: pl.Series) -> pl.Series:
    ticks_per_second = {"ms": 1e3, "us": 1e6, "ns": 1e9}
    unit = column.dtype.time_unit if isinstance(column.dtype, pl.Datetime) else None
    per_second = ticks_per_second[unit] if unit else 1 / 86_400
    seconds = column.to_physical().cast(pl.Float64) / per_second
    outside = (seconds < _YEAR_1) | (seconds >= _YEAR_10000)
    return column.set(outside, None) if outside.any() else column


def _parsed(column: pl.Series, time_format: str | None) -> tuple[pl.Series, pl.Series]:
    """Moments of values that name a zone (UTC), and the clock readings of those that do not."""
    if time_format in EPOCH_UNITS:
        return _sorted_out(_from_epoch(column, EPOCH_UNITS[time_format]))
    if isinstance(column.dtype, pl.Datetime):
        return _sorted_out(column.dt.cast_time_unit("us"))
    if column.dtype == pl.Date or (time_format is None and column.dtype.is_numeric()):
        raise MappingError(
            f"found {column.dtype} in time column {column.name!r}, expected date and time of day",
            hint="for a Unix timestamp set time.format to epoch_seconds or epoch_milliseconds",
        )
    if time_format is None:
        return _from_iso(read_text(column))
    # chrono reads %f as a count of nanoseconds; everyone who writes .%f means a fraction.
    pattern = time_format.replace(".%f", "%.f")
    texts = read_text(column)
    return _sorted_out(texts.str.to_datetime(pattern, time_unit="us", strict=False))


def _sorted_out(read: pl.Series) -> tuple[pl.Series, pl.Series]:
    """One date-time column as the pair of `_parsed`, by whether its type has a zone."""
    nothing = pl.Series([None], dtype=pl.Datetime("us")).new_from_index(0, len(read))
    if isinstance(read.dtype, pl.Datetime) and read.dtype.time_zone is not None:
        return read.dt.convert_time_zone("UTC"), nothing
    return nothing.dt.replace_time_zone("UTC"), read


def _from_epoch(column: pl.Series, microseconds: float) -> pl.Series:
    scaled = read_number(column) * microseconds
    usable = (scaled.abs() < _EXACT).fill_null(value=False) & scaled.is_not_nan()
    return (
        scaled.set(~usable.fill_null(value=False), None)
        .round()
        .cast(pl.Int64)
        .cast(UTC_MICROSECONDS)
    )


def _from_iso(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    parts = texts.str.extract_groups(_ISO_8601).struct.unnest()
    day, minute, second, fraction, offset = (parts.to_series(i) for i in range(5))
    clock = (day + " " + minute + second.fill_null(":00")).str.to_datetime(
        "%Y-%m-%d %H:%M:%S", time_unit="us", strict=False
    )
    digits = fraction.fill_null("0").str.slice(0, 6).str.pad_end(6, "0")
    clock = clock + digits.cast(pl.Int64).cast(pl.Duration("us"))
    sign = offset.str.starts_with("-").replace_strict({True: -1, False: 1}, default=None)
    hours = offset.str.extract(r"^[+-](\d{2})").cast(pl.Int64).fill_null(0)
    minutes = offset.str.extract(r"^[+-]\d{2}:?(\d{2})$").cast(pl.Int64).fill_null(0)
    shift = (sign * (hours * 60 + minutes) * 60_000_000).cast(pl.Duration("us"))
    return (clock - shift).dt.replace_time_zone("UTC"), clock.set(offset.is_not_null(), None)
