-- Statements about API keys.

-- name: keys
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
)
select now, id, name, scope, digest, created_at, expires_at, revoked_at, parent
  from clock left join api_keys on parent = '' or (revoked_at is null and expires_at > now)
 order by created_at, id

-- name: add
with clock as materialized (
    select coalesce($1, (extract(epoch from clock_timestamp()) * 1000000)::int8) as now
), forgotten as (
    delete from api_keys
     where $7 <> '' and parent <> '' and (revoked_at is not null or expires_at <= (select now from clock))
)
insert into api_keys (id, name, scope, digest, created_at, expires_at, parent)
select $2, $3, $4, $5, now, now + $6::int8, $7 from clock
returning id, name, scope, digest, created_at, expires_at, revoked_at, parent

-- name: revoke
update api_keys
   set revoked_at = coalesce(revoked_at, $1, (extract(epoch from clock_timestamp()) * 1000000)::int8)
 where id = $2 or parent = $2
returning id
