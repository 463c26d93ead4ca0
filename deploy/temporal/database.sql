-- Temporal's own role and databases, beside the application's. psql runs it as the owner at each
-- start, so that a changed password takes effect. Neither side may connect to the other's databases.
\set ON_ERROR_STOP on
\getenv password TEMPORAL_PASSWORD

select 'create role temporal' where not exists (select from pg_roles where rolname = 'temporal')
\gexec
alter role temporal with login nosuperuser nocreatedb nocreaterole nobypassrls password :'password';

select format('create database %I owner temporal', name)
from unnest(array['temporal', 'temporal_visibility']) as name
where not exists (select from pg_database where datname = name)
\gexec
revoke all on database temporal, temporal_visibility from public;
