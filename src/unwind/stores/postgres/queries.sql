-- Every statement of the PostgreSQL store: one round trip each, whatever the number of rows.
--
-- Rows go as one JSON document for each table, and their bytes in one piece beside it, in the order of the document, which
-- says the sizes: the driver takes up to a microsecond for each element of an array, the server next to nothing to take
-- documents apart. The first parameter of those that tell the time is the time itself, for tests; null: the database's
-- clock, in microseconds since the epoch.
--
-- Who waits for locks takes them in one order, or two batches could wait for one another: rows of `commits` first, heads
-- before others, each sorted; then what stands beside them. Who can do without a row that is locked skips it.

-- name: write
-- The short road of a commit, for when nobody was faster: a conflict fails it like bad data.
--
-- `held` locks a wake-up before comparing, and also where it stands early enough: a claim or a move on its way there is waited
-- for, and one that comes later finds the lock or sees these events. The comparison goes by what was read under the lock,
-- since the snapshot of the statement may be older. What the answer is made of runs first.
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), appended as (
    insert into commits (stream_id, version, category, count, events, recorded_at)
    select stream, version, category, count,
           substring($3::bytea from (sum(size) over before - size + 1)::int4 for size),
           (select now from clock)
      from json_to_recordset($2::json) as append (stream text, version int4, category text, count int4, size int4)
    window before as (rows unbounded preceding)
    returning 1
), written as (
    insert into sagas (id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at)
    select *
      from json_to_recordset($4::json) as saga (
           id text, revision text, definition text, status text, wake_at int8, correlation_id text, started_at int8,
           updated_at int8, ended_at int8)
        on conflict (id) do update
       set revision = excluded.revision, definition = excluded.definition, status = excluded.status,
           wake_at = excluded.wake_at, correlation_id = excluded.correlation_id, updated_at = excluded.updated_at,
           ended_at = excluded.ended_at
), held as (
    select sagas.id, sagas.wake_at as stands, asked.value::int8 as wake_at
      from json_each_text($5::json) as asked
      join sagas on sagas.id = asked.key
     where sagas.wake_at is not null
     order by sagas.id
       for no key update of sagas
), brought_forward as (
    update sagas set wake_at = held.wake_at from held where sagas.id = held.id and held.stands > held.wake_at
), kept as (
    insert into snapshots (stream_id, version, codec, checksum, data)
    select *
      from (select stream, version, codec, checksum,
                   substring($7::bytea from (sum(size) over before - size + 1)::int4 for size)
              from json_to_recordset($6::json) as snapshot (
                   stream text, version int4, codec int4, checksum int8, size int4)
            window before as (rows unbounded preceding)) as snapshot
        on conflict (stream_id) do update
       set version = excluded.version, codec = excluded.codec, checksum = excluded.checksum, data = excluded.data
     where excluded.version > snapshots.version
)
select now, (select count(*) from appended) from clock

-- name: write_winners
-- The road that answers per saga: of those that are not among the answers nothing is written.
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), won as (
    insert into commits (stream_id, version, category, count, events, recorded_at)
    select stream, version, category, count,
           substring($3::bytea from (sum(size) over before - size + 1)::int4 for size),
           (select now from clock)
      from json_to_recordset($2::json) as append (stream text, version int4, category text, count int4, size int4)
    window before as (rows unbounded preceding)
        on conflict (stream_id, version) do nothing
    returning stream_id
), appended as (
    insert into commits (stream_id, version, category, count, events, recorded_at)
    select stream, version, category, count, events, (select now from clock)
      from (select *, substring($9::bytea from (sum(size) over before - size + 1)::int4 for size) as events
              from json_to_recordset($8::json) as append (
                   head text, stream text, version int4, category text, count int4, size int4)
            window before as (rows unbounded preceding)) as append
     where head in (select stream_id from won)
    returning 1
), written as (
    insert into sagas (id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at)
    select *
      from json_to_recordset($4::json) as saga (
           id text, revision text, definition text, status text, wake_at int8, correlation_id text, started_at int8,
           updated_at int8, ended_at int8)
     where id in (select stream_id from won)
        on conflict (id) do update
       set revision = excluded.revision, definition = excluded.definition, status = excluded.status,
           wake_at = excluded.wake_at, correlation_id = excluded.correlation_id, updated_at = excluded.updated_at,
           ended_at = excluded.ended_at
), held as (
    select sagas.id, sagas.wake_at as stands, asked.value::int8 as wake_at
      from json_each_text($5::json) as asked
      join sagas on sagas.id = asked.key
     where sagas.wake_at is not null and asked.key in (select stream_id from won)
     order by sagas.id
       for no key update of sagas
), brought_forward as (
    update sagas set wake_at = held.wake_at from held where sagas.id = held.id and held.stands > held.wake_at
), kept as (
    insert into snapshots (stream_id, version, codec, checksum, data)
    select *
      from (select stream, version, codec, checksum,
                   substring($7::bytea from (sum(size) over before - size + 1)::int4 for size)
              from json_to_recordset($6::json) as snapshot (
                   stream text, version int4, codec int4, checksum int8, size int4)
            window before as (rows unbounded preceding)) as snapshot
     where stream in (select stream_id from won)
        on conflict (stream_id) do update
       set version = excluded.version, codec = excluded.codec, checksum = excluded.checksum, data = excluded.data
     where excluded.version > snapshots.version
)
select now, (select count(*) from appended), array(select stream_id from won) as won from clock

-- name: write_attributes
-- Goes into a commit where a saga with attributes begins: others do not even open the table.
    insert into attributes (saga_id, name, value, started_at)
    select saga_id, name, value, started_at
      from json_to_recordset($8::json) as found (saga_id text, name text, value text, started_at int8)
        on conflict (saga_id, name) do nothing

-- name: write_attributes_of_winners
    insert into attributes (saga_id, name, value, started_at)
    select saga_id, name, value, started_at
      from json_to_recordset($10::json) as found (saga_id text, name text, value text, started_at int8)
     where saga_id in (select stream_id from won)
        on conflict (saga_id, name) do nothing

-- name: load
-- Rows of four kinds: n the time, s a snapshot, c a commit, l a lease.
with asked as materialized (
    select key as stream_id, value::int8 as after from json_each_text($2::json)
), kept as materialized (
    select snapshots.*
      from asked
      join snapshots on snapshots.stream_id = asked.stream_id and snapshots.version > asked.after
     where $3::bool
), clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
)
select 'n' as kind, null as stream_id, null as version, now as number, null as codec, null as effect_id, null as data
  from clock
 union all
select 's', stream_id, version, checksum, codec, null, data from kept
 union all
select 'c', commits.stream_id, commits.version, null, null, null, commits.events
  from asked
  left join kept on kept.stream_id = asked.stream_id
  join commits on commits.stream_id = asked.stream_id and commits.version > coalesce(kept.version, asked.after)
 union all
select 'l', leases.saga_id, null, leases.held_until, null, leases.effect_id, null
  from asked
  join leases on leases.saga_id = asked.stream_id
 where leases.held_until > (select now from clock)

-- name: claim
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), due as materialized (
    select id, wake_at
      from sagas
     where wake_at <= (select now from clock) and revision = any ($2::text[])
     order by wake_at, id
     limit $3
       for no key update skip locked
), pushed as (
    update sagas set wake_at = (select now from clock) + $4::int8 from due where sagas.id = due.id
)
select now, array(select id from due order by wake_at, id) as ids from clock

-- name: move
select move_wake_ups($1::json)

-- name: hold
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), ended as (
    select saga_id, effect_id
      from leases
     where held_until <= (select now from clock) and effect_id not in (select key from json_each_text($2::json))
       for update skip locked
), forgotten as (
    delete from leases using ended where leases.saga_id = ended.saga_id and leases.effect_id = ended.effect_id
)
insert into leases (saga_id, effect_id, held_until)
select value, key, (select now from clock) + $3::int8
  from json_each_text($2::json)
 order by value collate "C", key collate "C"
    on conflict (saga_id, effect_id) do update set held_until = excluded.held_until

-- name: tail
-- Below the oldest transaction that still runs, nothing can come any more.
--
-- A row at or above the snapshot's end was committed by another cluster and came here by a dump: no transaction of this one
-- has such a number. Such rows are read after all others; who has read the last of them stands where this cluster's
-- transactions have not come yet, and is told so (`restored`): it begins anew, above the positions it has read (`floor`).
with saved as (
    select cursor, split_part(cursor, '/', 1)::xid8 as tx, split_part(cursor, '/', 2)::int8 as position,
           coalesce(nullif(split_part(cursor, '/', 3), ''), '0')::int8 as floor
      from (select coalesce((select cursor from cursors where consumer = $1), '0/0') as cursor) as found
), edge as (
    select pg_snapshot_xmin(pg_current_snapshot()) as oldest, pg_snapshot_xmax(pg_current_snapshot()) as next
)
select saved.cursor, saved.tx >= edge.next as restored, saved.floor, entry.*
  from saved
 cross join edge
  left join lateral (
       (select position, stream_id, category, version, events, recorded_at, tx
          from commits
         where (commits.tx, commits.position) > (saved.tx, saved.position)
           and commits.tx < edge.oldest
           and commits.position > saved.floor
         order by commits.tx, commits.position
         limit $2)
        union all
       (select position, stream_id, category, version, events, recorded_at, tx
          from commits
         where (commits.tx, commits.position) > (saved.tx, saved.position)
           and commits.tx >= edge.next
           and commits.position > saved.floor
           and (saved.floor = 0 or saved.tx >= edge.next)
         order by commits.tx, commits.position
         limit $2)
         order by tx, position
         limit $2
       ) as entry on true

-- name: advance
insert into cursors (consumer, cursor) values ($1, $2)
    on conflict (consumer) do update set cursor = excluded.cursor

-- name: note_definitions
insert into definitions (name, version, hash)
select * from unnest($1::text[], $2::int4[], $3::text[])
    on conflict (name, version) do nothing

-- name: clashing
select name, version, asked.hash
  from unnest($1::text[], $2::int4[], $3::text[]) as asked (name, version, hash)
  join definitions using (name, version)
 where definitions.hash <> asked.hash

-- name: live_others
-- From one revision in the index to the next, whatever lies between.
with recursive found (revision) as (
    select ''::text collate "C"
     union all
    select (select sagas.revision
              from sagas
             where sagas.status not in ('completed', 'compensated') and sagas.revision > found.revision
             order by sagas.revision
             limit 1)
      from found
     where found.revision is not null
)
select revision,
       (select count(*)
          from (select
                  from sagas
                 where sagas.status not in ('completed', 'compensated') and sagas.revision = found.revision
                 limit $2) as counted) as live
  from found
 where revision <> '' and revision <> all ($1::text[])

-- name: find
select id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at
  from sagas
 where started_at >= $1 and started_at < $2 and (started_at, id) < ($3, $4)
   and ($5::text[] is null or status = any ($5))
   and ($6 = '' or definition = $6)
 order by started_at desc, id desc
 limit $7

-- name: find_by_id
-- In two parts, so that the planner never prefers the index that has the order.
with asked as materialized (
    select * from sagas where id = any ($8::text[])
)
select id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at
  from asked
 where started_at >= $1 and started_at < $2 and (started_at, id) < ($3, $4)
   and ($5::text[] is null or status = any ($5))
   and ($6 = '' or definition = $6)
 order by started_at desc, id desc
 limit $7

-- name: find_live
select id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at
  from sagas
 where status not in ('completed', 'compensated') and revision = $9
   and started_at >= $1 and started_at < $2 and (started_at, id) < ($3, $4)
   and ($5::text[] is null or status = any ($5))
   and ($6 = '' or definition = $6)
   and ($8::text[] is null or id = any ($8))
 order by started_at desc, id desc
 limit $7

-- name: find_by_attribute
-- Along the index of one attribute, newest first, whatever the planner thinks of how many have it.
select sagas.id, revision, definition, status, wake_at, correlation_id, sagas.started_at, updated_at, ended_at
  from attributes as found
  join sagas on sagas.id = found.saga_id
 where found.name = $8 and found.value = $9
   and found.started_at >= $1 and found.started_at < $2 and (found.started_at, found.saga_id) < ($3, $4)
   and not exists (
       select from json_to_recordset($10::json) as other (name text, value text)
        where not exists (select from attributes as beside
                           where beside.saga_id = found.saga_id and beside.started_at = found.started_at
                             and beside.name = other.name and beside.value = other.value))
   and ($11::text[] is null or found.saga_id = any ($11))
   and ($5::text[] is null or status = any ($5))
   and ($6 = '' or definition = $6)
   and ($12 = '' or (revision = $12 and status not in ('completed', 'compensated')))
 order by found.started_at desc, found.saga_id desc
 limit $7

-- name: begins
-- A part: the sagas of which something begins with the text, the stretch from $8 to below $9.
-- By three indexes: along that of attributes from one name to the next.
with recursive names as (
    (select name from attributes where name >= '' order by name limit 1)
     union all
    (select following.name
       from names
      cross join lateral (select name from attributes where attributes.name > names.name order by name limit 1) as following)
), begins as materialized (
    select id from sagas where id >= $8 and id < $9
     union
    select id from sagas
     where correlation_id collate "C" <> id and correlation_id collate "C" >= $8 and correlation_id collate "C" < $9
     union
    select value.saga_id
      from names
     cross join lateral (select saga_id
                           from attributes
                          where attributes.name = names.name and value >= $8 and value < $9) as value
)

-- name: find_by_text
-- What begins so is read whole, and then sorted.
-- include: begins
select sagas.id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at
  from begins
  cross join lateral (select * from sagas where sagas.id = begins.id offset 0) as sagas  -- always by its key
 where started_at >= $1 and started_at < $2 and (started_at, sagas.id) < ($3, $4)
   and not exists (
       select from json_to_recordset($10::json) as other (name text, value text)
        where other.value is distinct from (select value from attributes
                                          where saga_id = begins.id and attributes.name = other.name))
   and ($11::text[] is null or sagas.id = any ($11))
   and ($5::text[] is null or status = any ($5))
   and ($6 = '' or definition = $6)
   and ($12 = '' or (revision = $12 and status not in ('completed', 'compensated')))
 order by started_at desc, sagas.id desc
 limit $7

-- name: living
-- A row without a status where there are none: it still tells the time.
with told as (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
)
select told.now, definition, status, count, started_at, updated_at, wake_at
  from told
  left join (select definition, status, count(*) as count, min(started_at) as started_at,
                    min(updated_at) as updated_at, min(wake_at) as wake_at
               from sagas
              where status not in ('completed', 'compensated') and revision = any ($2::text[])
              group by definition, status) as counted on true

-- name: amount
-- A part: what a saga counts as, by the attribute that $6 names for its definition.
(select case when attributes.value ~ '^(0|-?[1-9][0-9]{0,18})$'
              and attributes.value::numeric between -9223372036854775808 and 9223372036854775807
             then attributes.value::numeric end
   from attributes
  where attributes.saga_id = sagas.id and attributes.name = $6::json ->> sagas.definition) as amount

-- name: tally
select definition, status, count(*) as count, sum(amount) as amount
  from (select sagas.definition, sagas.status,
               -- include: amount
          from sagas
         where started_at >= $1 and started_at < $2
           and ($3::text[] is null or status = any ($3))
           and ($4 = '' or definition = $4)
           and ($5::text[] is null or id = any ($5))) as counted
 group by definition, status
 order by definition, status

-- name: tally_by_attribute
select definition, status, count(*) as count, sum(amount) as amount
  from (select sagas.definition, sagas.status,
               -- include: amount
          from attributes as found
          join sagas on sagas.id = found.saga_id
         where found.name = $7 and found.value = $8 and found.started_at >= $1 and found.started_at < $2
           and not exists (
               select from json_to_recordset($9::json) as other (name text, value text)
                where not exists (select from attributes as beside
                                   where beside.saga_id = found.saga_id and beside.started_at = found.started_at
                                     and beside.name = other.name and beside.value = other.value))
           and ($3::text[] is null or status = any ($3))
           and ($4 = '' or definition = $4)
           and ($5::text[] is null or sagas.id = any ($5))) as counted
 group by definition, status
 order by definition, status

-- name: tally_by_text
-- include: begins
select definition, status, count(*) as count, sum(amount) as amount
  from (select sagas.definition, sagas.status,
               -- include: amount
          from begins
          cross join lateral (select * from sagas where sagas.id = begins.id offset 0) as sagas  -- always by its key
         where started_at >= $1 and started_at < $2
           and not exists (
               select from json_to_recordset($7::json) as other (name text, value text)
                where other.value is distinct from (select value from attributes
                                                  where saga_id = begins.id and attributes.name = other.name))
           and ($3::text[] is null or status = any ($3))
           and ($4 = '' or definition = $4)
           and ($5::text[] is null or sagas.id = any ($5))) as counted
 group by definition, status
 order by definition, status

-- name: paces
-- A row without a stretch where nothing began nor ended: it still tells the time. What ended: from one definition in the
-- index to the next, and of each only what is new enough.
with recursive told as (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), seen (definition) as (
    select ''::text collate "C"
     union all
    select (select sagas.definition
              from sagas
             where sagas.ended_at is not null and sagas.definition > seen.definition
             order by sagas.definition
             limit 1)
      from seen
     where seen.definition is not null
), counted as (
    select started_at / $3::int8 as stretch, 'started' as what, 0::int8 as took, count(*) as count
      from sagas
     where started_at >= $2
     group by 1
     union all
    select stretch, status, rpad(left(took::text, 2), length(took::text), '0')::int8, count(*)
      from seen
     cross join lateral (
           select ended_at / $3::int8 as stretch, sagas.status, greatest(sagas.ended_at - sagas.started_at, 0) as took
             from sagas
            where sagas.definition = seen.definition and sagas.ended_at >= $2) as ended
     group by 1, 2, 3
)
select told.now, counted.* from told left join counted on true

-- name: ended
select id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at
  from sagas
 where definition = $1 and ended_at is not null
 order by ended_at desc, id desc
 limit $2
