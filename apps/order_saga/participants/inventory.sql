-- The inventory service's own tables. Reserving is a semantic lock: goods on hand stay where they are, and whatever an
-- orchestrator asks, no more than there is can ever be held.

create table stock (
    product_id text primary key,
    on_hand integer not null check (on_hand >= 0),
    reserved integer not null default 0 check (reserved >= 0 and reserved <= on_hand)
) strict, without rowid;

create table reservations (
    saga_id text primary key,               -- one reservation for each saga, however often it is asked for
    reservation_id text not null unique,
    order_id text not null,
    status text not null default 'open' check (status in ('open', 'released'))
) strict, without rowid;

create table reservation_lines (
    saga_id text not null references reservations,
    product_id text not null references stock,
    quantity integer not null check (quantity > 0),
    primary key (saga_id, product_id)
) strict, without rowid;
