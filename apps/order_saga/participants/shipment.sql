-- The shipment service's own table: one shipment for each saga, however often it is asked for.

create table shipments (
    saga_id text primary key,
    shipment_id text not null unique,
    order_id text not null,
    customer_id text not null,
    contents text not null check (json_valid(contents)),    -- quantity by product
    status text not null default 'active' check (status in ('active', 'cancelled'))
) strict, without rowid;
