-- Statements about who works.

-- name: announce
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), forgotten as (
    delete from workers where seen_at < (select now from clock) - $4::int8 and id <> $2
)
insert into workers (id, seen_at, told) select $2, now, $3 from clock
    on conflict (id) do update set seen_at = excluded.seen_at, told = excluded.told

-- name: withdraw
delete from workers where id = $1

-- name: roll
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
)
select now, id, seen_at, told from clock left join workers on true order by id

-- name: about
select current_setting('server_version') as version, coalesce(max(version_num), '0')::int4 as schema from alembic_version
