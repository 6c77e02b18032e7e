-- What sagas can be found by: written once, in the transaction of a saga's first commit, and never changed.
--
-- `started_at` is the saga's own, so that a page of what has one value is a stretch of the index, however many have it.
create table attributes (
    saga_id    text    not null,
    name       text    not null,
    value      text    not null,
    started_at integer not null,
    primary key (saga_id, name)
) strict, without rowid;

create index attributes_found on attributes (name, value, started_at, saga_id);
