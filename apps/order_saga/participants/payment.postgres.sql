-- The payment service's own tables. The ledger is only ever added to; a saga has at most one charge and one refund in it,
-- so that no account can be charged twice.

create table accounts (
    customer_id text collate "C" primary key,
    opening bigint not null check (opening >= 0),    -- cents, as is the balance
    balance bigint not null check (balance >= 0)
);

create table ledger (
    saga_id text collate "C" not null,
    kind text not null check (kind in ('charge', 'refund')),
    payment_id text collate "C" not null,
    order_id text not null,
    customer_id text collate "C" not null references accounts,
    amount bigint not null check (amount >= 0),      -- cents
    primary key (saga_id, kind)
);

create function ledger_is_only_added_to() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is only added to' using errcode = 'restrict_violation';
end $$;

create trigger ledger_is_never_changed before update or delete or truncate on ledger
    for each statement execute function ledger_is_only_added_to();
