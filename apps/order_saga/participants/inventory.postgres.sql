-- The inventory service's own tables. Reserving is a semantic lock: goods on hand stay where they are, and whatever an
-- orchestrator asks, no more than there is can ever be held.

create table stock (
    product_id text collate "C" primary key,
    on_hand bigint not null check (on_hand >= 0),
    reserved bigint not null default 0 check (reserved >= 0 and reserved <= on_hand)
);

create table reservations (
    saga_id text collate "C" primary key,               -- one reservation for each saga, however often it is asked for
    reservation_id text collate "C" not null unique,
    order_id text not null,
    status text not null default 'open' check (status in ('open', 'released'))
);

create table reservation_lines (
    saga_id text collate "C" not null references reservations,
    product_id text collate "C" not null references stock,
    quantity bigint not null check (quantity > 0),
    primary key (saga_id, product_id)
);
