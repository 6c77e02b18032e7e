-- Every statement of a participant's barrier on PostgreSQL. The index for `purge` is tiny: rows come in the order of
-- their time. Answers are recorded in the order of their ids, so that two transactions that meet on several never lock
-- them in a ring; old ones are purged in parts, since no transaction is to last long.

-- name: schema
create table if not exists barrier (
    effect_id   text collate "C" primary key,
    outcome     text        not null check (outcome in ('ok', 'refused')),
    name        text        not null,
    reply       text        not null,
    reason      text        not null,
    recorded_at timestamptz not null default now()
);
create index if not exists barrier_by_time on barrier using brin (recorded_at);

-- name: journal
create table if not exists barrier_scripts (
    number integer primary key,
    sha256 text        not null,
    ran_at timestamptz not null default now()
)

-- name: has_journal
select to_regclass('barrier') is not null and to_regclass('barrier_scripts') is not null

-- name: ran
select sha256 from barrier_scripts order by number

-- name: note
insert into barrier_scripts (number, sha256) values ($1, $2)

-- name: lookup
select effect_id, outcome, name, reply, reason from barrier where effect_id = any ($1::text[])

-- name: record
insert into barrier (effect_id, outcome, name, reply, reason)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) order by 1

-- name: purge
with old as (
    select ctid from barrier where recorded_at < now() - $1 * interval '1 microsecond' limit $2
), gone as (
    delete from barrier where ctid = any (array(select ctid from old)) returning 1
)
select count(*) from gone
