-- Every statement of the SQLite store.
--
-- Many rows go and come with one step of one statement. The reason is the interpreter's lock: `sqlite3` lets go of it at
-- each step, and while the event loop computes, every re-take may wait a whole switch interval (5 ms). So a read answers
-- with one row, a JSON array and a blob of all the bytes, and a question with many parts is asked in JSON. A commit is
-- one insert into a view of this connection's own, whose trigger writes to every table: with nothing begun before it, it is
-- the whole transaction, fsync included. Binding its rows one by one would hold the lock for longer than reading them
-- from JSON takes without it.

-- name: batches
create temp view batches (now, appends, sagas, wake_ups, snapshots, attributes, bytes) as
select null, null, null, null, null, null, null

-- name: write_batch
-- `substr` makes null of a piece of no bytes at all.
create temp trigger write_batch instead of insert on batches
begin
    insert into commits (stream_id, version, category, count, events, recorded_at)
    select json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'),
           coalesce(substr(new.bytes, json_extract(value, '$[4]'), json_extract(value, '$[5]')), x''), new.now
      from json_each(new.appends);

    insert into sagas (id, revision, definition, status, wake_at, correlation_id, started_at, updated_at, ended_at)
    select json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
           json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]')
      from json_each(new.sagas)
     where true
        on conflict (id) do update
       set revision = excluded.revision, definition = excluded.definition, status = excluded.status,
           wake_at = excluded.wake_at, correlation_id = excluded.correlation_id, updated_at = excluded.updated_at,
           ended_at = excluded.ended_at;

    update sagas set wake_at = json_extract(value, '$[1]')
      from json_each(new.wake_ups)
     where sagas.id = json_extract(value, '$[0]') and sagas.wake_at > json_extract(value, '$[1]');

    insert into snapshots (stream_id, version, codec, checksum, data)
    select json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]'),
           coalesce(substr(new.bytes, json_extract(value, '$[4]'), json_extract(value, '$[5]')), x'')
      from json_each(new.snapshots)
     where true
        on conflict (stream_id) do update
       set version = excluded.version, codec = excluded.codec, checksum = excluded.checksum, data = excluded.data
     where excluded.version > snapshots.version;

    insert into attributes (saga_id, name, value, started_at)
    select json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
           json_extract(value, '$[3]')
      from json_each(new.attributes)
     where true
        on conflict (saga_id, name) do nothing;
end

-- name: commit
insert into batches (now, appends, sagas, wake_ups, snapshots, attributes, bytes) values (?, ?, ?, ?, ?, ?, ?)

-- name: taken
select json_group_array(commits.stream_id)
  from json_each(:heads) as head
  join commits on commits.stream_id = json_extract(head.value, '$[0]')
              and commits.version = json_extract(head.value, '$[1]')

-- name: load_snapshots
select json_group_array(json_array(stream_id, version, codec, checksum, length(data))),
       coalesce(cast(group_concat(data, '') as blob), x'')
  from json_each(:streams) as asked
  join snapshots on snapshots.stream_id = asked.key and snapshots.version > asked.value

-- name: load_commits
select json_group_array(json_array(stream_id, version, length(events))), coalesce(cast(group_concat(events, '') as blob), x'')
  from json_each(:streams) as asked
  join commits on commits.stream_id = asked.key and commits.version > asked.value

-- name: load_leases
select json_group_array(json_array(saga_id, effect_id, held_until))
  from json_each(:streams) as asked
  join leases on leases.saga_id = asked.key
 where leases.held_until > :now

-- name: due
select json_group_array(id)
  from (select id from sagas
         where wake_at <= :now and revision in (select value from json_each(:revisions))
         order by wake_at, id
         limit :limit)

-- name: push
update sagas set wake_at = :wake_at from json_each(:ids) as due where sagas.id = due.value

-- name: move
update sagas set wake_at = json_extract(move.value, '$.wake_at')
  from json_each(:moves) as move
 where sagas.id = json_extract(move.value, '$.id') and sagas.wake_at = json_extract(move.value, '$.token')
   and not exists (select 1 from commits
                    where stream_id = sagas.id and commits.version > json_extract(move.value, '$.version'))

-- name: forget_leases
delete from leases where held_until <= :now

-- name: hold
insert into leases (saga_id, effect_id, held_until)
select json_extract(value, '$[0]'), json_extract(value, '$[1]'), :until from json_each(:effects)
 where true
    on conflict (saga_id, effect_id) do update set held_until = excluded.held_until

-- name: cursor
select cursor from cursors where consumer = :consumer

-- name: tail
select json_group_array(json_array(position, stream_id, category, version, recorded_at, length(events))),
       coalesce(cast(group_concat(events, '') as blob), x'')
  from (select * from commits where position > :position order by position limit :limit)

-- name: advance
insert into cursors (consumer, cursor) values (:consumer, :cursor)
    on conflict (consumer) do update set cursor = excluded.cursor

-- name: note_definitions
insert into definitions (name, version, hash)
select json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') from json_each(:revisions)
 where true
    on conflict (name, version) do nothing

-- name: clashing
select json_group_array(json_array(name, version, json_extract(value, '$[2]')))
  from json_each(:revisions)
  join definitions on name = json_extract(value, '$[0]') and version = json_extract(value, '$[1]')
 where hash <> json_extract(value, '$[2]')

-- name: live_others
-- From one revision in the index to the next, whatever lies between.
with recursive seen (revision) as (
    select ''
     union all
    select (select sagas.revision
              from sagas
             where sagas.status not in ('completed', 'compensated') and sagas.revision > seen.revision
             order by sagas.revision
             limit 1)
      from seen
     where seen.revision is not null
)
select json_group_array(json_array(
           revision,
           (select count(*)
              from (select 1
                      from sagas
                     where sagas.status not in ('completed', 'compensated') and sagas.revision = seen.revision
                     limit :most))))
  from seen
 where revision <> '' and revision not in (select value from json_each(:known))

-- name: find
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select * from sagas
         where started_at >= :started_from and started_at < :started_to
           and (started_at, id) < (:before_at, :before_id)
           and (:statuses is null or status in (select value from json_each(:statuses)))
           and (:definition = '' or definition = :definition)
         order by started_at desc, id desc
         limit :limit)

-- name: find_by_id
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select * from sagas
         where id in (select value from json_each(:ids))
           -- With a plus, so that the planner never prefers the index on it.
           and +started_at >= :started_from and +started_at < :started_to
           and (started_at, id) < (:before_at, :before_id)
           and (:statuses is null or status in (select value from json_each(:statuses)))
           and (:definition = '' or definition = :definition)
         order by started_at desc, id desc
         limit :limit)

-- name: find_live
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select * from sagas
         where status not in ('completed', 'compensated') and revision = :live_on
           and started_at >= :started_from and started_at < :started_to
           and (started_at, id) < (:before_at, :before_id)
           and (:ids is null or id in (select value from json_each(:ids)))
           and (:statuses is null or status in (select value from json_each(:statuses)))
           and (:definition = '' or definition = :definition)
         order by started_at desc, id desc
         limit :limit)

-- name: find_by_attribute
-- Along the index of one attribute, newest first; the joins are crossed, so that the planner keeps to that order.
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select sagas.*
          from attributes as found cross join sagas on sagas.id = found.saga_id
         where found.name = :name and found.value = :value
           and found.started_at >= :started_from and found.started_at < :started_to
           and (found.started_at, found.saga_id) < (:before_at, :before_id)
           and not exists (
               select 1 from json_each(:others) as other
                where not exists (select 1 from attributes as beside
                                   where beside.saga_id = found.saga_id and beside.started_at = found.started_at
                                     and beside.name = json_extract(other.value, '$[0]')
                                     and beside.value = json_extract(other.value, '$[1]')))
           and (:ids is null or found.saga_id in (select value from json_each(:ids)))
           and (:statuses is null or sagas.status in (select value from json_each(:statuses)))
           and (:definition = '' or sagas.definition = :definition)
           and (:live_on = ''
                or (sagas.revision = :live_on and sagas.status not in ('completed', 'compensated')))
         order by found.started_at desc, found.saga_id desc
         limit :limit)

-- name: begins
-- A part: the sagas of which something begins with the text.
-- By three indexes: along that of attributes from one name to the next.
with recursive names (name) as (
    select min(name) from attributes
     union all
    select (select attributes.name from attributes where attributes.name > names.name order by attributes.name limit 1)
      from names
     where names.name is not null
), begins (id) as (
    select id from sagas where id >= :text and id < :beyond
     union
    select id from sagas where correlation_id <> id and correlation_id >= :text and correlation_id < :beyond
     union
    select value.saga_id
      from names cross join attributes as value
     where value.name = names.name and value.value >= :text and value.value < :beyond
)

-- name: find_by_text
-- What begins so is read whole, and then sorted.
-- include: begins
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select sagas.*
          from begins cross join sagas on sagas.id = begins.id
         -- With a plus, so that the planner never prefers the index on it.
         where +sagas.started_at >= :started_from and +sagas.started_at < :started_to
           and (sagas.started_at, sagas.id) < (:before_at, :before_id)
           and (:ids is null or begins.id in (select value from json_each(:ids)))
           and not exists (
               select 1 from json_each(:others) as other
                where not exists (select 1 from attributes as beside
                                   where beside.saga_id = begins.id and beside.started_at = sagas.started_at
                                     and beside.name = json_extract(other.value, '$[0]')
                                     and beside.value = json_extract(other.value, '$[1]')))
           and (:statuses is null or sagas.status in (select value from json_each(:statuses)))
           and (:definition = '' or sagas.definition = :definition)
           and (:live_on = ''
                or (sagas.revision = :live_on and sagas.status not in ('completed', 'compensated')))
         order by sagas.started_at desc, sagas.id desc
         limit :limit)

-- name: living
select json_group_array(json_array(definition, status, count, started_at, updated_at, wake_at))
  from (select definition, status, count(*) as count, min(started_at) as started_at, min(updated_at) as updated_at,
               min(wake_at) as wake_at
          from sagas
         where status not in ('completed', 'compensated') and revision in (select value from json_each(:revisions))
         group by definition, status
         order by definition, status)

-- name: tally
-- Sums in two parts, of millions and what is left: one of them all may not fit into 64 bits.
select json_group_array(json_array(definition, status, count, millions, rest))
  from (select sagas.definition, sagas.status, count(*) as count,
               sum(cast(amount.value as integer) / 1000000) as millions,
               sum(cast(amount.value as integer) % 1000000) as rest
          from sagas
          left join attributes as amount
            on amount.saga_id = sagas.id
           and amount.name = (select value from json_each(:amounts) where key = sagas.definition)
           and cast(cast(amount.value as integer) as text) = amount.value
         where sagas.started_at >= :started_from and sagas.started_at < :started_to
           and (:ids is null or sagas.id in (select value from json_each(:ids)))
           and (:statuses is null or sagas.status in (select value from json_each(:statuses)))
           and (:definition = '' or sagas.definition = :definition)
         group by sagas.definition, sagas.status
         order by sagas.definition, sagas.status)

-- name: tally_by_attribute
select json_group_array(json_array(definition, status, count, millions, rest))
  from (select sagas.definition, sagas.status, count(*) as count,
               sum(cast(amount.value as integer) / 1000000) as millions,
               sum(cast(amount.value as integer) % 1000000) as rest
          from attributes as found cross join sagas on sagas.id = found.saga_id
          left join attributes as amount
            on amount.saga_id = sagas.id
           and amount.name = (select value from json_each(:amounts) where key = sagas.definition)
           and cast(cast(amount.value as integer) as text) = amount.value
         where found.name = :name and found.value = :value
           and found.started_at >= :started_from and found.started_at < :started_to
           and not exists (
               select 1 from json_each(:others) as other
                where not exists (select 1 from attributes as beside
                                   where beside.saga_id = found.saga_id and beside.started_at = found.started_at
                                     and beside.name = json_extract(other.value, '$[0]')
                                     and beside.value = json_extract(other.value, '$[1]')))
           and (:ids is null or found.saga_id in (select value from json_each(:ids)))
           and (:statuses is null or sagas.status in (select value from json_each(:statuses)))
           and (:definition = '' or sagas.definition = :definition)
         group by sagas.definition, sagas.status
         order by sagas.definition, sagas.status)

-- name: tally_by_text
-- include: begins
select json_group_array(json_array(definition, status, count, millions, rest))
  from (select sagas.definition, sagas.status, count(*) as count,
               sum(cast(amount.value as integer) / 1000000) as millions,
               sum(cast(amount.value as integer) % 1000000) as rest
          from begins cross join sagas on sagas.id = begins.id
          left join attributes as amount
            on amount.saga_id = sagas.id
           and amount.name = (select value from json_each(:amounts) where key = sagas.definition)
           and cast(cast(amount.value as integer) as text) = amount.value
         where +sagas.started_at >= :started_from and +sagas.started_at < :started_to
           and (:ids is null or begins.id in (select value from json_each(:ids)))
           and not exists (
               select 1 from json_each(:others) as other
                where not exists (select 1 from attributes as beside
                                   where beside.saga_id = begins.id and beside.started_at = sagas.started_at
                                     and beside.name = json_extract(other.value, '$[0]')
                                     and beside.value = json_extract(other.value, '$[1]')))
           and (:statuses is null or sagas.status in (select value from json_each(:statuses)))
           and (:definition = '' or sagas.definition = :definition)
         group by sagas.definition, sagas.status
         order by sagas.definition, sagas.status)

-- name: paces
-- What ended: from one definition in the index to the next, and of each only what is new enough.
with recursive seen (definition) as (
    select ''
     union all
    select (select sagas.definition
              from sagas
             where sagas.ended_at is not null and sagas.definition > seen.definition
             order by sagas.definition
             limit 1)
      from seen
     where seen.definition is not null
)
select json_group_array(json_array(stretch, what, took, count))
  from (select started_at / :stretch as stretch, 'started' as what, 0 as took, count(*) as count
          from sagas
         where started_at >= :since
         group by 1
         union all
        select stretch, status, cast(substr(took, 1, 2) || substr('00000000000000000', 1, length(took) - 2) as integer),
               count(*)
          from (select ended_at / :stretch as stretch, sagas.status, max(sagas.ended_at - sagas.started_at, 0) as took
                  from seen cross join sagas
                 where sagas.definition = seen.definition and sagas.ended_at >= :since)
         group by 1, 2, 3)

-- name: ended
select json_group_array(json_object(
           'id', id, 'revision', revision, 'definition', definition, 'status', status, 'wake_at', wake_at,
           'correlation_id', correlation_id, 'started_at', started_at, 'updated_at', updated_at, 'ended_at', ended_at))
  from (select * from sagas
         where definition = :definition and ended_at is not null
         order by ended_at desc, id desc
         limit :limit)
