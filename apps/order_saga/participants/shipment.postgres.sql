-- The shipment service's own table: one shipment for each saga, however often it is asked for.

create table shipments (
    saga_id text collate "C" primary key,
    shipment_id text collate "C" not null unique,
    order_id text not null,
    customer_id text collate "C" not null,
    contents text not null check (contents::json is not null),    -- quantity by product
    status text not null default 'active' check (status in ('active', 'cancelled'))
);
