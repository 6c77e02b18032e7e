-- Statements about API keys.

-- name: keys
select id, name, scope, digest, created_at, expires_at, revoked_at, parent
  from api_keys
 where parent = '' or (revoked_at is null and expires_at > :now)
 order by created_at, id

-- name: add
insert into api_keys (id, name, scope, digest, created_at, expires_at, parent)
values (:id, :name, :scope, :digest, :now, :expires_at, :parent)

-- name: forget
delete from api_keys where parent <> '' and (revoked_at is not null or expires_at <= :now)

-- name: revoke
update api_keys set revoked_at = coalesce(revoked_at, :now) where id = :id or parent = :id
