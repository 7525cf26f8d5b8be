{{ config(unique_key=['venue', 'symbol', 'first_id'], tags=['trades']) }}

-- One row a range of ids that share one fate, folded from the events in whatever order and however often they came.
-- An id is filled if it is held or an event says so, else absent, else rejected, else open. Events whose ranges overlap are
-- folded together, as a cluster.
--
-- What is said of an id depends on the events that cover it and on whether it is held; two adjacent ids are in one row if
-- the same is said of both and some event covers both. So news changes no row but those that it overlaps or touches, and
-- a run folds anew only the regions of these, each from the events clipped to it.

with
{% if is_incremental() %}
new_runs as (
    select venue, symbol, first_id, last_id
    from {{ new_in(ref('held_ids')) }} as new_ids
),

held_spans as (
    {{ spans_of('new_runs') }}
),

news as (
    select venue, symbol, first_id, last_id
    from {{ new_in(source('bronze', 'trade_gaps'), '_loaded_at') }} as new_events
    where first_id <= last_id
    union all
    select t.venue, t.symbol, t.first_id, t.last_id
    from {{ this }} as t
    semi join held_spans as s
        on s.venue = t.venue and s.symbol = t.symbol and s.first_id <= t.last_id and s.last_id >= t.first_id
    where t.state <> 'filled'
),

spans as (
    {{ spans_of('news') }}
),

reached as (
    select venue, symbol, first_id as span, first_id, last_id
    from spans
    union all
    select t.venue, t.symbol, s.first_id as span, t.first_id, t.last_id
    from {{ this }} as t
    join spans as s
        on s.venue = t.venue and s.symbol = t.symbol and s.first_id <= t.last_id + 1 and s.last_id >= t.first_id - 1
),

regions as ( -- few; no row crosses the bounds of one, unless it lies in another whole
    select venue, symbol, min(first_id) as first_id, max(last_id) as last_id
    from reached
    group by venue, symbol, span
),

events as (
    select
        e.venue,
        e.symbol,
        greatest(e.first_id, r.first_id) as first_id,
        least(e.last_id, r.last_id) as last_id,
        e.event,
        e.reason,
        e.resolved_by,
        e.occurred_at
    from {{ source('bronze', 'trade_gaps') }} as e
    join regions as r
        on r.venue = e.venue and r.symbol = e.symbol and r.first_id <= e.last_id and r.last_id >= e.first_id
    where e.first_id <= e.last_id
),

held_ids as (
    select h.venue, h.symbol, h.first_id, h.last_id
    from {{ ref('held_ids') }} as h
    semi join regions as r
        on r.venue = h.venue and r.symbol = h.symbol and r.first_id <= h.last_id and r.last_id >= h.first_id
),
{% else %}
events as (
    select venue, symbol, first_id, last_id, event, reason, resolved_by, occurred_at
    from {{ source('bronze', 'trade_gaps') }}
    where first_id <= last_id
),

held_ids as (
    select venue, symbol, first_id, last_id from {{ ref('held_ids') }}
),
{% endif %}

told_ranges as (
    select
        *,
        max(last_id) over (
            partition by venue, symbol order by first_id, last_id rows between unbounded preceding and 1 preceding
        ) as reach
    from (select distinct venue, symbol, first_id, last_id from events) as told
),

numbered as (
    select
        *,
        sum(case when first_id <= reach then 0 else 1 end) over (
            partition by venue, symbol order by first_id, last_id rows between unbounded preceding and current row
        ) as cluster
    from told_ranges
),

clustered as (
    select e.*, n.cluster
    from events as e
    join numbered as n
        on n.venue = e.venue and n.symbol = e.symbol and n.first_id = e.first_id and n.last_id = e.last_id
),

edges as ( -- where something begins (1) or has ended (-1)
    {% for column, sign in [('first_id', 1), ('last_id + 1', -1)] %}
    select
        venue,
        symbol,
        {{ column }} as id,
        {{ sign }} as told,
        case when event = 'filled' then {{ sign }} else 0 end as filled,
        case when event = 'absent' then {{ sign }} else 0 end as absent,
        case when event = 'rejected' then {{ sign }} else 0 end as rejected,
        cluster
    from clustered
    union all
    select
        venue,
        symbol,
        {{ column }} as id,
        0 as told,
        {{ sign }} as filled,
        0 as absent,
        0 as rejected,
        cast(null as bigint) as cluster
    from held_ids
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

points as (
    select
        venue,
        symbol,
        id,
        sum(told) as told,
        sum(filled) as filled,
        sum(absent) as absent,
        sum(rejected) as rejected,
        max(cluster) as cluster
    from edges
    group by venue, symbol, id
),

swept as (
    select
        venue,
        symbol,
        id as first_id,
        lead(id) over (partition by venue, symbol order by id) - 1 as last_id,
        {% for what in ['told', 'filled', 'absent', 'rejected'] %}
        sum({{ what }}) over (partition by venue, symbol order by id rows between unbounded preceding and current row) as {{ what }},
        {% endfor %}
        max(cluster) over (
            partition by venue, symbol order by id rows between unbounded preceding and current row
        ) as cluster
    from points
),

segments as (
    select
        venue,
        symbol,
        first_id,
        last_id,
        cluster,
        case when filled > 0 then 'filled' when absent > 0 then 'absent' when rejected > 0 then 'rejected' else 'open' end as state
    from swept
    where told > 0
),

ranked as (
    select
        s.*,
        e.event,
        e.reason,
        e.resolved_by,
        e.occurred_at,
        row_number() over (
            partition by s.venue, s.symbol, s.first_id
            order by
                case when e.event = 'missing' then 0 when e.event = s.state then 1 else 2 end,
                e.occurred_at,
                coalesce(e.reason, '')
        ) as telling,
        row_number() over (
            partition by s.venue, s.symbol, s.first_id
            order by case when e.event = s.state then 0 else 1 end, e.occurred_at, coalesce(e.resolved_by, '')
        ) as closing
    from segments as s
    join clustered as e
        on e.venue = s.venue and e.symbol = s.symbol and e.cluster = s.cluster
        and e.first_id <= s.first_id and e.last_id >= s.last_id
),

described as (
    select
        venue,
        symbol,
        first_id,
        last_id,
        cluster,
        state,
        max(case when telling = 1 then reason end) as reason,
        min(occurred_at) as detected_at,
        max(case when closing = 1 and event = state then occurred_at end) as closed_at,
        max(case when closing = 1 and event = state then resolved_by end) as resolved_by
    from ranked
    group by venue, symbol, first_id, last_id, cluster, state
),

compared as (
    select
        *,
        case
            when first_id = lag(last_id) over w + 1
                {% for column in ['state', 'reason', 'detected_at', 'closed_at', 'resolved_by'] %}
                and {{ column }} is not distinct from lag({{ column }}) over w
                {% endfor %}
                then 0
            else 1
        end as begins
    from described
    window w as (partition by venue, symbol, cluster order by first_id)
),

stretches as (
    select
        *,
        sum(begins) over (
            partition by venue, symbol, cluster order by first_id rows between unbounded preceding and current row
        ) as stretch
    from compared
),

ranges as (
    select
        venue,
        symbol,
        min(first_id) as first_id,
        max(last_id) as last_id,
        min(state) as state,
        min(reason) as reason,
        min(detected_at) as detected_at,
        min(closed_at) as closed_at,
        min(resolved_by) as resolved_by
    from stretches
    group by venue, symbol, cluster, stretch
),

{% if is_incremental() %}
gone as (
    select g.venue, g.symbol, g.first_id, g.last_id, g.state, g.reason, g.detected_at, g.closed_at, g.resolved_by
    from {{ this }} as g
    semi join regions as t on t.venue = g.venue and t.symbol = g.symbol and g.first_id between t.first_id and t.last_id
    anti join ranges as r on r.venue = g.venue and r.symbol = g.symbol and r.first_id = g.first_id
),
{% endif %}

final as (
    {{ with_gone('ranges') }}
)

select * from final
