-- Statements about who works.

-- name: announce
insert into workers (id, seen_at, told) values (:id, :now, :told)
    on conflict (id) do update set seen_at = excluded.seen_at, told = excluded.told

-- name: forget
delete from workers where seen_at < :before

-- name: withdraw
delete from workers where id = :id

-- name: roll
select id, seen_at, told from workers order by id
