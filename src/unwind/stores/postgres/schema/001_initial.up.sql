-- The log, and what is kept beside it in the same transactions.
--
-- Ids are text: the port allows any. In the collation "C" they are compared byte by byte, as every reader sorts them.

-- One row per decision. (stream_id, version) is the compare-and-set. The order of commits is (tx, position): positions alone
-- are drawn before a transaction ends, and a reader that went by them would pass those that end late.
create table commits (
    position    bigint  not null generated always as identity,
    tx          xid8    not null default pg_current_xact_id(),
    recorded_at bigint  not null,
    version     integer not null check (version > 0),
    count       integer not null,
    stream_id   text    not null collate "C",
    category    text    not null collate "C",
    events      bytea   not null,
    primary key (stream_id, version)
);

create index commits_in_order on commits (tx, position);

create function commits_are_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'commits are append-only';
end
$$;

create trigger commits_are_never_changed before update or delete on commits
    for each row execute function commits_are_append_only();

create trigger commits_are_never_emptied before truncate on commits
    for each statement execute function commits_are_append_only();

-- What jsonb cannot hold, such as a NUL in a text, is shown as one text.
create function events_as_jsonb(events bytea) returns jsonb language plpgsql immutable as $$
declare
    decoded jsonb;
begin
    decoded := convert_from(events, 'UTF8');
    return case jsonb_typeof(decoded) when 'array' then decoded else jsonb_build_array(decoded) end;
exception when data_exception then
    return jsonb_build_array(encode(events, 'escape'));
end
$$;

-- For people and tools: one row per event.
create view events as
select commits.position,
       commits.stream_id,
       commits.version + event.number - 1           as version,
       commits.category,
       event.value ->> 'type'                       as type,
       to_timestamp(commits.recorded_at / 1000000.0) as recorded,
       event.value                                  as event
  from commits, jsonb_array_elements(events_as_jsonb(commits.events)) with ordinality as event (value, number);

-- A live saga without a wake-up could be forgotten: it cannot be stored.
create table sagas (
    wake_at        bigint,
    started_at     bigint not null,
    updated_at     bigint not null,
    ended_at       bigint,
    id             text   not null primary key collate "C",
    revision       text   not null collate "C",
    definition     text   not null collate "C",
    status         text   not null collate "C",
    correlation_id text   not null,
    constraint no_orphan check ((wake_at is null) = (status in ('completed', 'compensated', 'paused')))
);

create index sagas_due on sagas (wake_at, id) where wake_at is not null;
create index sagas_started on sagas (started_at, id);

-- Moves wake-ups on where their token still stands and no event has come since. Two statements, because each has its own view
-- of the database: whoever holds a row is a commit on its way, and the wake-up is left to it; whoever held it before is
-- seen by the second statement, with its events.
create function move_wake_ups(moves json) returns void language plpgsql as $$
declare
    held text[] := array(
        select sagas.id
          from json_to_recordset(moves) as move (id text, token bigint)
          join sagas on sagas.id = move.id
         where sagas.wake_at = move.token
         order by sagas.id
           for no key update of sagas skip locked);
begin
    update sagas
       set wake_at = move.wake_at
      from json_to_recordset(moves) as move (id text, token bigint, wake_at bigint, version integer)
     where sagas.id = move.id and sagas.id = any (held) and sagas.wake_at = move.token
       and not exists (select from commits where commits.stream_id = move.id and commits.version > move.version);
end
$$;

create table snapshots (
    checksum  bigint  not null,
    version   integer not null,
    codec     integer not null,
    stream_id text    not null primary key collate "C",
    data      bytea   not null
);

create table leases (
    held_until bigint not null,
    saga_id    text   not null collate "C",
    effect_id  text   not null collate "C",
    primary key (saga_id, effect_id)
);

create table cursors (
    consumer text not null primary key collate "C",
    cursor   text not null
);

create table definitions (
    name    text    not null collate "C",
    version integer not null,
    hash    text    not null,
    primary key (name, version)
);
