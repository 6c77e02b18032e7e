-- A file of version 0.1.0, as its own code wrote it: schema, marks, two streams.
BEGIN TRANSACTION;
CREATE TABLE commits (
    position    integer primary key,
    stream_id   text    not null,
    version     integer not null check (version > 0),
    category    text    not null,
    count       integer not null,
    events      blob    not null,
    recorded_at integer not null,
    unique (stream_id, version)
) strict;
INSERT INTO "commits" VALUES(1,'kept',1,'saga',1,X'5B315D',1700000000000000);
INSERT INTO "commits" VALUES(2,'too',1,'saga',1,X'5B315D',1700000000000000);
INSERT INTO "commits" VALUES(3,'order of kept',1,'order',1,X'5B325D',1700000000000000);
CREATE TABLE cursors (
    consumer text primary key,
    cursor   text not null
) strict, without rowid;
CREATE TABLE definitions (
    name    text    not null,
    version integer not null,
    hash    text    not null,
    primary key (name, version)
) strict, without rowid;
CREATE TABLE leases (
    saga_id    text    not null,
    effect_id  text    not null,
    held_until integer not null,
    primary key (saga_id, effect_id)
) strict, without rowid;
CREATE TABLE sagas (
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
INSERT INTO "sagas" VALUES('kept','order@1#abc','order','running',1700000000000000,'about kept',1700000000000000,1700000000000000,NULL);
CREATE TABLE snapshots (
    stream_id text primary key,
    version   integer not null,
    codec     integer not null,
    checksum  integer not null,
    data      blob    not null
) strict;
INSERT INTO "snapshots" VALUES('kept',1,1,4294967295,X'7B7D');
CREATE TRIGGER commits_are_never_changed before update on commits
begin
    select raise(abort, 'commits are append-only');
end;
CREATE TRIGGER commits_are_never_deleted before delete on commits
begin
    select raise(abort, 'commits are append-only');
end;
CREATE VIEW events as
select commits.position,
       commits.stream_id,
       commits.version + event.key                                                as version,
       commits.category,
       json_extract(event.value, '$.type')                                        as type,
       strftime('%Y-%m-%dT%H:%M:%fZ', commits.recorded_at / 1000000.0, 'unixepoch') as recorded,
       event.value                                                                as event
  from commits, json_each(cast(commits.events as text)) as event;
CREATE INDEX sagas_due on sagas (wake_at, id) where wake_at is not null;
CREATE INDEX sagas_started on sagas (started_at, id);
COMMIT;
pragma application_id = 1970173796;
pragma user_version = 1;
