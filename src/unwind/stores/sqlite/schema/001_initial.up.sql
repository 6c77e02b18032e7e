-- The log, and what is kept beside it in the same transactions.

-- One row per decision. (stream_id, version) is the compare-and-set; position is the order of commits.
create table commits (
    position    integer primary key,
    stream_id   text    not null,
    version     integer not null check (version > 0),
    category    text    not null,
    count       integer not null,
    events      blob    not null,
    recorded_at integer not null,
    unique (stream_id, version)
) strict;

create trigger commits_are_never_changed before update on commits
begin
    select raise(abort, 'commits are append-only');
end;

create trigger commits_are_never_deleted before delete on commits
begin
    select raise(abort, 'commits are append-only');
end;

-- For people and tools: one row per event.
create view events as
select commits.position,
       commits.stream_id,
       commits.version + event.key                                                as version,
       commits.category,
       json_extract(event.value, '$.type')                                        as type,
       strftime('%Y-%m-%dT%H:%M:%fZ', commits.recorded_at / 1000000.0, 'unixepoch') as recorded,
       event.value                                                                as event
  from commits, json_each(cast(commits.events as text)) as event;

-- A live saga without a wake-up could be forgotten: it cannot be stored.
create table sagas (
    id             text primary key,
    revision       text    not null,
    definition     text    not null,
    status         text    not null,
    wake_at        integer,
    correlation_id text    not null,
    started_at     integer not null,
    updated_at     integer not null,
    ended_at       integer,
    check ((wake_at is null) = (status in ('completed', 'compensated', 'paused')))
) strict, without rowid;

create index sagas_due on sagas (wake_at, id) where wake_at is not null;
create index sagas_started on sagas (started_at, id);

create table snapshots (
    stream_id text primary key,
    version   integer not null,
    codec     integer not null,
    checksum  integer not null,
    data      blob    not null
) strict;

create table leases (
    saga_id    text    not null,
    effect_id  text    not null,
    held_until integer not null,
    primary key (saga_id, effect_id)
) strict, without rowid;

create table cursors (
    consumer text primary key,
    cursor   text not null
) strict, without rowid;

create table definitions (
    name    text    not null,
    version integer not null,
    hash    text    not null,
    primary key (name, version)
) strict, without rowid;
