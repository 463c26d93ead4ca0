-- What the shop's administrator did two years ago.
create role shop_owner login createrole password 'owner';
create role shop_app login password 'app';
create database shop owner shop_owner;
