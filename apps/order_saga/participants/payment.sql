-- The payment service's own tables. The ledger is only ever added to; a saga has at most one charge and one refund in it,
-- so that no account can be charged twice.

create table accounts (
    customer_id text primary key,
    opening integer not null check (opening >= 0),    -- cents, as is the balance
    balance integer not null check (balance >= 0)
) strict, without rowid;

create table ledger (
    saga_id text not null,
    kind text not null check (kind in ('charge', 'refund')),
    payment_id text not null,
    order_id text not null,
    customer_id text not null references accounts,
    amount integer not null check (amount >= 0),      -- cents
    primary key (saga_id, kind)
) strict, without rowid;

create trigger ledger_is_never_changed before update on ledger
begin select raise(abort, 'the ledger is only added to'); end;

create trigger ledger_is_never_shortened before delete on ledger
begin select raise(abort, 'the ledger is only added to'); end;
