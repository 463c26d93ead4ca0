-- The shop's own tables, two years old.
create table customers (
    id text primary key,
    name text not null,
    closed boolean not null default false
);
create table stock (
    tenant_id text not null references customers,
    item text not null,
    amount integer not null check (amount >= 0),
    primary key (tenant_id, item)
);
create table orders (
    tenant_id text not null references customers,
    id bigint generated always as identity,
    item text not null,
    placed_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
create table receipts (
    tenant_id text not null,
    order_id bigint not null,
    text text not null,
    primary key (tenant_id, order_id),
    foreign key (tenant_id, order_id) references orders
);
create table day_totals (
    tenant_id text not null references customers,
    day date not null,
    orders integer not null,
    primary key (tenant_id, day)
);
insert into customers (id, name) values
    ('org_01EHZNVPK3SFK441A1RGBFSHRT', 'Big Bakery'),
    ('org_01EHZNVPK3SFK441A1RGBFSHRt', 'Small Bakery'),
    ('org_01HXYZKQ2M8R4T6V8W0ABCDEFG', 'Florist');
insert into customers (id, name, closed) values ('org_01CLOSED00000000000000CLOS', 'Gone', true);
insert into stock select id, 'bread', 100 from customers;
