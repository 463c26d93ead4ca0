CREATE TABLE public.plans (code int PRIMARY KEY, price numeric NOT NULL);
CREATE TABLE public.tenants (flat text PRIMARY KEY, renter text NOT NULL);
INSERT INTO plans VALUES (1, 9.90), (2, 19.90);
INSERT INTO tenants VALUES ('1a', 'Ada'), ('1b', 'Grace'), ('2a', 'Edsger');
GRANT SELECT ON plans, tenants TO legacy_app;
